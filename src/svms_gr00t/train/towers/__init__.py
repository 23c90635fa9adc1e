"""Blocks of the three towers: computed again, left off the device, named."""
