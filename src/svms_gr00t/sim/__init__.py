"""The embedded counter kitchen: environment, tasks, scripted experts, recording and replay. Needs the `sim` extra."""
