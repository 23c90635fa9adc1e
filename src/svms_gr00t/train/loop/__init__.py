"""The loop of one phase: steps, optimisers, checkpoints, metrics."""
