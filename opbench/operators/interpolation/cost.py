"""The MACs of torch's interpolations by two, which every operator of the task may be made of."""

from opbench.tasks import INTERPOLATIONS as FORMULAS

__all__ = ["FORMULAS"]
