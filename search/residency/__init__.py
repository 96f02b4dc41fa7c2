"""Which tensors of a network live on chip, where and when: the plan, with its proof, and the layers that follow it."""
