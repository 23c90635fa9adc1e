"""Chosen numbers, one file for each size; the only place that has them."""
