"""What must be computed: attention layers, by name, by key=value text or from a file."""
