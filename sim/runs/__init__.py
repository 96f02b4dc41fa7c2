"""Runs over time: what the phases of one cost together."""
