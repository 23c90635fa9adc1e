"""What memory is worth, and what the streams and the sheaf add to it, on tasks that need it."""
