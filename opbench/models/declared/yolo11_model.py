"""YOLO11 as a detector: dimensions N H W of the image, and the size's own multiples in percent, width and depth.

n width 25 depth 50 | s 50, 50 | m 100, 50 | l 100, 100 | x 150, 100   (ultralytics yolo11.yaml, "scales")
"""

from __future__ import annotations

from opbench.models.detector_networks import Sizes, register_detectors
from opbench.models.yolo11 import YOLO11
from opbench.registry import register_task
from opbench.schema import Task

TASK = register_task(
    Task(
        name="yolo11_model",
        title="YOLO11 detector: (N, 3, H, W) -> boxes and class scores at every anchor",
        baseline="yolo11[torch]",
        dims=("N", "H", "W"),
        defaults={"width": 25, "depth": 50},
        deformable=True,
    )
)
SIZES: Sizes = {
    (25, 50): "n",
    (50, 50): "s",
    (100, 50): "m",
    (100, 100): "l",
    (150, 100): "x",
}

register_detectors(YOLO11, TASK.name, SIZES)
