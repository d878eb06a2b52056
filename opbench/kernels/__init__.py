"""Fast cores: nothing but kernels, their launch code, and the formulas that give them second derivatives.

`cpu` writes machine code through llvmlite, `triton` is for CUDA; what both ask and promise of an operator stands here.
"""
