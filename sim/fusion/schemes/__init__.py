"""Fusion schemes, a file each: what running a group costs, and the programs that run it."""
