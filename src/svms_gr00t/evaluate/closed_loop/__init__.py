"""A policy drives an environment; successes are counted."""
