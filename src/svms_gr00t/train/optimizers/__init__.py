"""What moves the weights: AdamW in three forms, and what training in bfloat16 needs."""
