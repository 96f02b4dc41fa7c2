"""Where the points of a sweep are done: in this process, by worker processes, or on a Dask cluster.

:mod:`executor` is the interface, :mod:`dispatch` deals the points out to any of them and sets aside what kills its
worker.
"""
