"""ultralytics' detection trainer for networks with opbench's layers: importing this makes their YAML lines parse.

Data parallel training starts a fresh process for each device, which unpickles the trainer's class and the network and
knows nothing else of the process that began: `ultralytics.utils.dist.generate_ddp_file` writes what it runs. With this
class that process builds swapped networks by itself, as resuming and validating do.

    YOLO("yolov8n-carafe.yaml").train(data=..., trainer=SwappedTrainer, device=[0, 1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opbench.models.ultralytics_package import import_ultralytics
from opbench.models.ultralytics_yaml import register_ultralytics

register_ultralytics()

if TYPE_CHECKING:
    DetectionTrainer = Any
else:
    DetectionTrainer = import_ultralytics("ultralytics.models.yolo.detect.train").DetectionTrainer


class SwappedTrainer(DetectionTrainer):  # type: ignore[misc]
    """A `DetectionTrainer`, found by name where the write-ups' lines are needed."""
