"""What runs when: a generation of text, the steps of a diffusion model; described in a file or a name with options."""
