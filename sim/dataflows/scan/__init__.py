"""Scans: the state of a head passes from chunk to chunk, or from token to token."""
