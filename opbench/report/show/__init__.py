"""Pictures of the operators themselves: CARAFE's kernels and DCNv3's sampling points on an image."""
