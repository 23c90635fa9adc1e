"""Phases as values, schedules, the loop, and the gates between phases."""
