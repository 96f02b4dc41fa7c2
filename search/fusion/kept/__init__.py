"""Fusion groups and what stays on chip between them, chosen together.

:mod:`tensors` says what may stay, :mod:`costs` what a group costs with it, :mod:`ways` and :mod:`model` find the best
plan by known costs and floors, :mod:`search` asks for costs until no floor is left, :mod:`outcome` is what it reports.
"""
