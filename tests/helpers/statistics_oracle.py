"""Statistics of rows straight from numpy, and a check against them."""

import numpy as np


def oracle(rows: np.ndarray) -> dict[str, np.ndarray]:
    wide = rows.astype(np.float64)
    values = {name: getattr(wide, name)(axis=0) for name in ("min", "max", "mean", "std")}
    return values | {"q01": np.quantile(wide, 0.01, axis=0), "q99": np.quantile(wide, 0.99, axis=0)}


def check(summary: dict[str, list[float]], rows: np.ndarray) -> None:
    expected = oracle(rows)
    assert summary.keys() == expected.keys()
    for name in ("min", "max", "q01", "q99"):
        np.testing.assert_array_equal(summary[name], expected[name])
    for name in ("mean", "std"):  # another order of summation: a few ulp of the largest value
        np.testing.assert_allclose(summary[name], expected[name], rtol=1e-12, atol=1e-12 * np.abs(rows).max())
