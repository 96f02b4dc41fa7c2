"""Schedulers of ready tasks: a file each."""
