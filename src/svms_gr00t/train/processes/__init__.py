"""Processes that train together: DDP and FSDP2."""
