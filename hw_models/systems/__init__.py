"""Computers that tables of measurements name: which machine does the work in them, and what is around it."""
