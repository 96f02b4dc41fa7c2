"""Diffusion over steps: which blocks of a network run at which step, and what is kept between steps."""
