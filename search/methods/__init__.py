"""Ways to search a tiling space, behind one interface: each proposes tilings, all are judged by exact runs.

:mod:`method` is the interface and the door through which a method becomes known, :mod:`problem` is what a method
sees, :mod:`run` runs one, :mod:`outcome` is what it reports.
"""
