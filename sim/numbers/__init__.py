"""Runs of programs on numbers, in the order in which the simulated commands finish: what all of them share."""
