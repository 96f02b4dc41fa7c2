"""Latency of many networks on a device that nobody described, from a few measurements and simulated machines."""
