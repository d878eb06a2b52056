"""Stored samples to ratios, intervals and verdicts; knows the nouns and nothing that measures."""
