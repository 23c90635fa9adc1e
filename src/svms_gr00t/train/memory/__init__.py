"""What a phase takes on a card, planned and simulated, and what makes it less."""
