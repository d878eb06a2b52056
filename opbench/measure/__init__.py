"""Measure: parameters, MACs, memory and latency, one file each, and the machine's yardsticks."""
