"""Full and partial slabs (BRR): their choice and sizes, programs, and runs on numbers."""
