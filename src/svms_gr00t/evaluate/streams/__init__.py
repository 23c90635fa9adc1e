"""What the streams know, what is lost without one, and what their disagreement notices."""
