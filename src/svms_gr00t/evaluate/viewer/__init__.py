"""Recorded episodes to look at, step by step, beside what a policy would have done."""
