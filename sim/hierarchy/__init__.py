"""What one layer's loop nest moves, costs and takes on a memory hierarchy, for any order of its loops."""
