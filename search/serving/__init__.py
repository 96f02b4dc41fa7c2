"""What steps of a server cost on a machine: library kernels of GPUs, closed forms elsewhere."""
