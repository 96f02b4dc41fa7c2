"""Matrix products and convolutions as implicit products."""
