"""A cellular sheaf on the graph of streams: overlaps, disagreement, heat flow."""
