"""Between the world and the model: observations in, model inputs out, and actions back in physical units."""
