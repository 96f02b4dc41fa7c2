"""Attention masks as data: lists of key blocks by head and row of blocks, named families of them, and files."""
