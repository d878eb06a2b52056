"""Metrics for Prometheus and its like: `families` says which there are, the other modules write them."""
