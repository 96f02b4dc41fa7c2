"""Schedules of task graphs on a system on a chip with proof: the shortest one, or the gap to it."""
