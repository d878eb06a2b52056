"""Fast cores: nothing but kernels and their launch code."""
