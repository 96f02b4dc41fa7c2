"""Kernels compiled for a GPU that is not there: Triton takes the target as a parameter, its assembler comes along."""
