"""Operator streams: the graph, its checks, files, formats, tables and drawings."""
