"""Whole computers that run language models: predictions of rates, held against tables of measurements."""
