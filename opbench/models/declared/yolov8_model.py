"""YOLOv8 as a detector: dimensions N H W of the image, and the size's own multiples in percent, width and depth.

n width 25 depth 33 | s 50, 33 | m 75, 67 | l 100, 100 | x 125, 100   (ultralytics yolov8.yaml, "scales")
"""

from __future__ import annotations

from opbench.models.detector_networks import Sizes, register_detectors
from opbench.models.yolov8 import YOLOV8

SIZES: Sizes = {
    (25, 33): "n",
    (50, 33): "s",
    (75, 67): "m",
    (100, 100): "l",
    (125, 100): "x",
}

register_detectors(YOLOV8, SIZES)
