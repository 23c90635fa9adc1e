"""What is asked of the robot: nine tasks that one frame decides, and the memory suite, in which the past decides."""
