"""From datasets to batches: splits, mixtures, sampling, sources of pictures, collation."""
