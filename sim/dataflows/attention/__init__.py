"""The attention dataflows, a file each, and what they share."""
