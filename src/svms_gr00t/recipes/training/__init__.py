"""`svms-gr00t train`: from a configuration to a trained policy with its passport."""
