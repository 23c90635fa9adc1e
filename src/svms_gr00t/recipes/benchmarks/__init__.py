"""Closed-loop benchmarks by name."""
