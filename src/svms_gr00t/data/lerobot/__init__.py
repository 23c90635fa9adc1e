"""LeRobot datasets (v2.0, v2.1, v3.0) with GR00T's additions: read, described, measured and written."""
