"""Predicted action chunks against recorded ones."""
