"""Cores for CPUs, emitted as LLVM code and compiled for the processor on the first call.

An operator's own files (`carafe*`, `dcnv3*`) build on `ir`, its `element` types, `jit` and `launch`.
"""
