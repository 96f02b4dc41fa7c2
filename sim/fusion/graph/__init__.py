"""The graph that fusion works on: operators with their feature maps, and the rows that each edge needs."""
