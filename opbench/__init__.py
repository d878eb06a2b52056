"""opbench: what CARAFE, DCNv3 and their rivals cost, and whether an implementation of them is right."""

__version__ = "0.1.0"
