"""Weak token labels: which words of an instruction speak of things, of actions and order, or of state."""
