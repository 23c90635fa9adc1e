"""State and action dictionaries to the model's padded vectors and back.

Axes: T past states, H horizon, D numbers of a key, Ds and Da the model's widths.

    vector = [normalised key 1, normalised key 2, ..., 0 ...]          keys in the order of the embodiment config

Relative actions are taken from the last state before they are normalised, always by the range (never by percentiles) of
`relative_action` statistics. Source: state-action processor of GR00T N1.6.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from svms_gr00t.core.errors import DataError
from svms_gr00t.data.processor.embodiment import EmbodimentConfig
from svms_gr00t.data.processor.normalize import Normalizer, mean_std, min_max, sin_cos
from svms_gr00t.data.processor.rotations import absolute_pose, relative_pose

_STATISTICS_HINT = "Compute statistics over the dataset that you train on"


class LowDimCodec:
    """Normalises, concatenates and pads; knows every width. Raises DataError when statistics or widths do not fit."""

    def __init__(
        self,
        config: EmbodimentConfig,
        statistics: Mapping[str, Any],
        *,
        max_state_dim: int,
        max_action_dim: int,
        max_action_horizon: int,
        use_percentiles: bool = False,
        clip_outliers: bool = True,
        apply_sincos_state_encoding: bool = False,
        use_relative_action: bool = True,
    ) -> None:
        self.config = config
        self.relative = tuple(
            key
            for key in config.action.modality_keys
            if use_relative_action and config.action.action(key).rep == "relative"
        )
        options = {"percentiles": use_percentiles, "clip": clip_outliers}
        self.state = {
            key: self._state_normalizer(key, statistics, options, sincos=apply_sincos_state_encoding)
            for key in config.state.modality_keys
        }
        self.action = {key: self._action_normalizer(key, statistics, options) for key in config.action.modality_keys}
        self.max_state_dim, self.max_action_dim, self.max_horizon = max_state_dim, max_action_dim, max_action_horizon
        self.state_dim = sum(n.encoded_width for n in self.state.values())
        self.action_dim = sum(n.encoded_width for n in self.action.values())
        self.horizon = config.action.horizon
        self._check_widths()

    def _state_normalizer(
        self, key: str, statistics: Mapping[str, Any], options: dict[str, bool], *, sincos: bool
    ) -> Normalizer:
        summary, where = _summary(statistics, "state", key)
        if sincos and key in self.config.state.sin_cos_embedding_keys:
            return sin_cos(summary, where)
        if key in self.config.state.mean_std_embedding_keys:
            return mean_std(summary, where)
        return min_max(summary, where, **options)

    def _action_normalizer(self, key: str, statistics: Mapping[str, Any], options: dict[str, bool]) -> Normalizer:
        if key in self.relative:
            summary, where = _summary(statistics, "relative_action", key)
            options = {**options, "percentiles": False}
        else:
            summary, where = _summary(statistics, "action", key)
        if key in self.config.action.mean_std_embedding_keys:
            return mean_std(summary, where, clip=options["clip"])
        return min_max(summary, where, **options)

    def _check_widths(self) -> None:
        limits = (
            ("state", self.state_dim, self.max_state_dim),
            ("action", self.action_dim, self.max_action_dim),
            ("horizon", self.horizon, self.max_horizon),
        )
        for name, width, limit in limits:
            if width > limit:
                hint = f"Raise the model's max {name} or name fewer keys"
                raise DataError(f"embodiment {name}", got=f"{width}", want=f"at most {limit}", hint=hint)
        for name, normalizers in (("state", self.state), ("action", self.action)):
            for key, one in normalizers.items():
                bounds = getattr(one, "low", getattr(one, "mean", np.zeros(1)))
                steps = name == "action" and key in self.relative and len(bounds) == self.horizon
                if bounds.ndim > 1 and not (steps and bounds.ndim == 2):
                    got, want = f"shape {bounds.shape}", "a number for each element, for relative actions at each step"
                    raise DataError(f"statistics {name}.{key}", got=got, want=want, hint=_STATISTICS_HINT)

    def encode_state(self, state: Mapping[str, np.ndarray]) -> Float[np.ndarray, "T Ds"]:
        """Normalised, concatenated and zero-padded state history. Raises DataError for a missing key or width."""
        parts = [n.encode(_take("state", key, state, n.width)) for key, n in self.state.items()]
        return _padded(np.concatenate(parts, axis=-1), len(parts[0]), self.max_state_dim)

    def encode_action(
        self, actions: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
    ) -> Float[np.ndarray, "H Da"]:
        """Normalised, concatenated and zero-padded chunk of `horizon` steps. Raises DataError."""
        parts = []
        for key, normalizer in self.action.items():
            chunk = _take("action", key, actions, normalizer.width)
            if len(chunk) != self.horizon:
                hint = "Repeat the last action and mark those steps as padding"
                raise DataError(f"action.{key}", got=f"{len(chunk)} steps", want=f"{self.horizon}", hint=hint)
            if key in self.relative:
                chunk = self._shift(key, chunk, state, forward=True)
            parts.append(normalizer.encode(chunk))
        return _padded(np.concatenate(parts, axis=-1), self.max_horizon, self.max_action_dim)

    def decode_action(
        self, vectors: Float[np.ndarray, "H Da"], state: Mapping[str, np.ndarray] | None
    ) -> dict[str, Float[np.ndarray, "h _d"]]:
        """Physical actions of each key, padding dropped. Raises DataError when relative actions miss their state."""
        vectors = vectors[: self.horizon].astype(np.float64)
        edges = np.cumsum([n.encoded_width for n in self.action.values()])
        chunks = np.split(vectors[:, : edges[-1]], edges[:-1], axis=-1)
        decoded = {}
        for (key, normalizer), chunk in zip(self.action.items(), chunks, strict=True):
            plain = normalizer.decode(chunk)
            if key in self.relative:
                if state is None:
                    hint = "Pass the observation that the chunk was predicted from"
                    raise DataError(f"action.{key}", got="no state", want="its reference state", hint=hint)
                plain = self._shift(key, plain, state, forward=False)
            decoded[key] = plain.astype(np.float32)
        return decoded

    def _shift(self, key: str, chunk: np.ndarray, state: Mapping[str, np.ndarray], *, forward: bool) -> np.ndarray:
        meaning = self.config.action.action(key)
        name = meaning.state_key or key
        reference = _take("state", name, state, self.state[name].width)[-1]
        if meaning.type == "eef" and meaning.format != "default":
            move = relative_pose if forward else absolute_pose
            return move(chunk, np.broadcast_to(reference, (len(chunk), len(reference))), meaning.format)
        return chunk - reference if forward else chunk + reference


def only(names: Collection[str]) -> str:
    """The names there are, for an error that misses another."""
    return f"only {', '.join(names)}" if names else "nothing"


def _summary(statistics: Mapping[str, Any], kind: str, key: str) -> tuple[Mapping[str, Any], str]:
    found = statistics.get(kind, {}).get(key)
    if found is None:
        got = only(statistics.get(kind, {}))
        raise DataError(f"statistics {kind}", got=got, want=key, hint=_STATISTICS_HINT)
    return found, f"statistics {kind}.{key}"


def _take(kind: str, key: str, values: Mapping[str, np.ndarray], width: int) -> np.ndarray:
    if key not in values:
        hint = "The key order does not matter, the names do"
        raise DataError(kind, got=only(values), want=key, hint=hint)
    rows = np.asarray(values[key], dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != width:
        hint = "Use the statistics of the same robot and keys"
        raise DataError(f"{kind}.{key}", got=f"shape {rows.shape}", want=f"(steps, {width})", hint=hint)
    return rows


def _padded(rows: np.ndarray, length: int, width: int) -> np.ndarray:
    out = np.zeros((length, width))
    out[: rows.shape[0], : rows.shape[1]] = rows
    return out
