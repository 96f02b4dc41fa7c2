"""Kernels of a GPU as mappings, timed one kernel at a time: tiles, waves, pipelines, caches, power, launch.

Where the engine of :mod:`tilewright.sim` follows every command, this package computes the time of a whole kernel from
its tiles in closed form, for many shapes at once. Its few parameters are physical and calibrated once for a device and
a family of kernels (:mod:`tilewright.hw_models.gpu.calibration`).
"""
