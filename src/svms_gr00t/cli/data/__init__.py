"""`svms-gr00t data ...`."""
