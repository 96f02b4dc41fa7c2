"""What a GPU has beyond the parts that every machine has, and the calibrated parameters of its kernels."""
