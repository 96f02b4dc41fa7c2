"""Runs over time on a machine: every step at its mapping."""
