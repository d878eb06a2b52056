"""The operators: one folder = one operator, or a family of them. Its `__init__` declares them as a tuple `OPERATORS`.

`common` is what they share, `external` what other packages contribute. Adding an operator is adding a folder.
"""

# The order in which they are declared, and so listed: these first, any other after them by name.
ORDER = (
    *("carafe", "interpolation", "deconv", "pixel_shuffle", "spatial_attention"),
    *("convolution", "dcnv3", "dcnv2"),
    "strided_convolution",
)
# What is here and declares nothing; upsample and dcnv3_modules are earlier places of what has moved.
NOT_OPERATORS = ("common", "external", "upsample", "dcnv3_modules")
