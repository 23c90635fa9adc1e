"""N1.6 checkpoints under NVIDIA's own names: read, written, compared, summarised."""
