"""Depth-first tiles: their geometry, programs and runs on numbers, and their costs on a memory hierarchy."""
