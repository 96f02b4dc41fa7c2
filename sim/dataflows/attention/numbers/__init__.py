"""Attention programs run on numbers: what there is to compute on, and what each command does to it."""
