"""Which choice is best: tilings, comparisons, lower bounds and what-ifs."""
