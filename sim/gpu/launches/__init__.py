"""A network as the kernels that a framework launches for it on a GPU: which, what they find in the L2, how long."""
