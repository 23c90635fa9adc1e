"""How long answers took, in fixed buckets: constant memory, quantiles to within a bucket (a quarter of their value)."""

import threading
from bisect import bisect_left

EDGES = tuple(0.1 * 1.25**i for i in range(60))
"""Upper ends of the buckets in milliseconds: 0.1 ms to a minute."""


class Histogram:
    """Counts of latencies; may be filled from several threads."""

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self.longest = 0.0
        self._lock = threading.Lock()

    def add(self, milliseconds: float) -> None:
        """Take in one."""
        with self._lock:
            self.counts[bisect_left(EDGES, milliseconds)] += 1
            self.longest = max(self.longest, milliseconds)

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Milliseconds below which that share lies, rounded up to a bucket's end; None without any."""
        if not self.total:
            return None
        reached = 0
        for count, end in zip(self.counts, (*EDGES, self.longest), strict=True):
            reached += count
            if reached >= share * self.total:
                return min(end, self.longest)
        return self.longest

    def buckets(self) -> dict[str, int]:
        """Upper end in milliseconds -> count, without empty buckets."""
        ends = [f"{end:.3g}" for end in EDGES] + ["inf"]
        return {end: count for end, count in zip(ends, self.counts, strict=True) if count}

    def summary(self) -> dict[str, float | int | None]:
        """For people and dashboards."""
        numbers = {name: self.quantile(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
        return {"requests": self.total, **{f"{k}_ms": v for k, v in numbers.items()}, "max_ms": self.longest}
