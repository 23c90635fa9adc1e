"""`svms-gr00t evaluate ...`, `compare` and `card`."""
