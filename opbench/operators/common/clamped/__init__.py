"""Convolution of samples that are taken anywhere in an image, places outside of it clamped: LDConv's and snake's core.

`definition.py` is its formula, `cores.py` the ways to compute it, `cost.py` what it costs. Operators say where they
sample.
"""
