"""SVMS behind the backbone of LeRobot's own GR00T N1.7."""
