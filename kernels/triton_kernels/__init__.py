"""Kernels in Triton. They need the extra ``gpu``; with TRITON_INTERPRET=1 they run on the CPU, slowly, as a check."""
