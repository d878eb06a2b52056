"""Fast cores: nothing but kernels and their launch code.

`cpu` writes machine code through llvmlite, `triton` is for CUDA; what both ask and promise of an operator stands here.
"""
