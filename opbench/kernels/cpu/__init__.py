"""Cores for CPUs, emitted as LLVM code and compiled for the processor on the first call.

The kernels (`carafe*`, `dysample*`, and `sampling*`, of which `dcnv3` is a use) build on `ir`, its `element`
types, `jit` and `launch`.
"""
