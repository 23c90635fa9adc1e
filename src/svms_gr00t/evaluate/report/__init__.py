"""One self-contained page that shows what was run, what came out, how sure that is, and what it does not show."""
