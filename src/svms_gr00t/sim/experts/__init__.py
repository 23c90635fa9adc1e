"""Scripted demonstrators, one plan for each task."""
