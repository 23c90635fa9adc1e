"""The parts of SVMS that know tokens but no sheaf: stream heads, auxiliary labels, router, merge, metrics."""
