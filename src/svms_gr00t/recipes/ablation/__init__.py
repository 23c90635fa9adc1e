"""`svms-gr00t ablate`: what each part is worth, against controls."""
