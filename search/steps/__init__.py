"""Which blocks of a network run at which step of a diffusion run, and in which bits: chosen within a budget, proven."""
