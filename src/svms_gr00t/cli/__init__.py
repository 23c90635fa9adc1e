"""The command line: thin dataclasses over the library, and the only layer that prints."""
