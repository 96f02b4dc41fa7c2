"""Quantised engines of the literature as typed descriptions: what each asks of a machine for one product.

An engine says, for C[m, n] = A[m, k] B[k, n] (A activations, B weights), which products the matrix unit multiplies and
in which number format, what vector work comes on top, and which bytes move, scales included. :mod:`.roofline` turns
that into seconds at peak rates, :mod:`.machine_time` into cycles of a machine.
"""
