"""What a policy is worth, with intervals: open loop, closed loop, streams, and one report that shows all of it."""
