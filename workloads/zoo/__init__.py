"""Well-known networks as operator streams, built from their published configurations in plain Python."""
