"""Sweeps of designs: what is swept, where results are kept, which points are run."""
