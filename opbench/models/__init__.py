"""Whole networks: the swap of their layers for CARAFE, DCNv3 or a rival, and YOLOv8 with it.

Importing this loads torch, so the command line imports it inside the commands that need it.
"""

from opbench.models.roles import ROLES
from opbench.models.selecting import matching
from opbench.models.sites import Site, functional_upsampling
from opbench.models.slots import SLOTS
from opbench.models.swap import Change, swap
from opbench.models.ultralytics_yaml import register_ultralytics

__all__ = ["ROLES", "SLOTS", "Change", "Site", "functional_upsampling", "matching", "register_ultralytics", "swap"]
