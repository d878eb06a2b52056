"""Cores for CUDA devices, in Triton: the `*_kernels` are what runs there, the files beside them launch it.

Triton itself is imported with the first call.
"""
