"""Lowerings: an operator, a machine and a mapping become a program."""
