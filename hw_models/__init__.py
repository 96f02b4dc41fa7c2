"""What the machine is, and what one action on it costs in cycles, bytes, energy and area."""
