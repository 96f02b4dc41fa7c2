"""Layer fusion: groups of operators that run together, so that what passes between them stays on chip."""
