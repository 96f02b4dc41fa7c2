"""How the kinds of runs are evaluated, a file each."""
