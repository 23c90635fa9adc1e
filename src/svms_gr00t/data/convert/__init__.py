"""Converters between the forms that demonstrations come in; each can be interrupted and taken up again."""
