"""What is typed, before tyro reads it: one spelling for every command, and lines of other tools."""
