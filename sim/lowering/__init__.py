"""From an operator and a mapping to a program: what a dataflow is, what a tile costs, how a mapping is judged."""
