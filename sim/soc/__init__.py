"""Streams of jobs on a system on a chip, tick by tick: schedulers, what they lead to, and its energy."""
