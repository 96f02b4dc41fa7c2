"""Bit widths: which number format each layer takes, chosen by what a choice costs on a machine."""
