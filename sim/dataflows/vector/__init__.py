"""Element-wise work, norms, softmax and the like: rows streamed through the vector unit."""
