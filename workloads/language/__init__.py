"""Language models by their configuration: how many weights a token reads, how they are stored, what a cache holds."""
