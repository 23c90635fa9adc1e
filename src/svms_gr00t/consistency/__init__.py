"""Physical stalks: what a robot measures, what its pictures say, what was expected, and how far these are apart."""
