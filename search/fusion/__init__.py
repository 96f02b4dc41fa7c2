"""Which operators run together: partitions of a network into fusion groups, searched for the least cost.

:mod:`problem` is what a method sees, :mod:`plan` what it may do with a partition, :mod:`methods` holds the methods and
the door through which they become known, :mod:`run` runs one and :mod:`outcome` is what it reports. :mod:`split`
repairs groups that do not fit, by chance or with the explanations of :mod:`tilewright.search.fusion.explain`.
"""
