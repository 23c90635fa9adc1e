"""How results are shown: tables that cut nothing, and the same numbers as JSON."""
