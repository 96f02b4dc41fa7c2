"""What real hardware does: kernels and their measurements."""
