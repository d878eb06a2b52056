"""YOLO11 as a detector: dimensions N H W of the image, and the size's own multiples in percent, width and depth.

n width 25 depth 50 | s 50, 50 | m 100, 50 | l 100, 100 | x 150, 100   (ultralytics yolo11.yaml, "scales")
"""

from __future__ import annotations

from opbench.models.detector_networks import Sizes, register_detectors
from opbench.models.yolo11 import YOLO11

SIZES: Sizes = {
    (25, 50): "n",
    (50, 50): "s",
    (100, 50): "m",
    (100, 100): "l",
    (150, 100): "x",
}

register_detectors(YOLO11, SIZES)
