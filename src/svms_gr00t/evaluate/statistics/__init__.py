"""Intervals and tests, so that no number stands alone."""
