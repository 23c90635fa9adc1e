"""Acting as one launch: batches of one form share a captured graph; what cannot be captured acts as before."""
