"""Rounding: how far rounding may move a definition's answer, derived by running error analysis.

`derive.py` is the way in. A new torch operation is one entry in `elementwise.py`, `sums.py`, `moves.py` or `layers.py`.
"""
