"""A results folder over time: its runs, their digests, the series of a case, and what is pruned."""
