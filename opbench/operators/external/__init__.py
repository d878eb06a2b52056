"""Others' compiled operators as implementations of ours, a file a package: mmcv, torchvision, InternImage's, DCNv4's.

An adapter competes only where its package is installed, and is never chosen by "auto". Each does no more than arrange
tensors as the package documents them. What a package can't do is refused with a ValueError that names the option,
which `opbench check` lists as unsupported.
"""
