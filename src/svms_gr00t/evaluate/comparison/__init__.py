"""Runs beside one another: when a comparison is fair, and what it says."""
