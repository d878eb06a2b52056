"""YOLO11 through the `ultralytics` package; `opbench.models.detectors.detector` builds it with CARAFE and DCNv3 in it.

DCNv3 goes into the bottlenecks of the backbone's four C3k2, those of the blocks inside them too. Importing this loads
no ultralytics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opbench.models.detectors import DetectorFamily, Scale

# The package's own summary lines (ultralytics/cfg/models/11/yolo11.yaml).
PUBLISHED_PARAMETERS: dict[Scale, int] = {
    "n": 2_624_080,
    "s": 9_458_752,
    "m": 20_114_688,
    "l": 25_372_160,
    "x": 56_966_176,
}
# Sizes whose every C3k2 holds blocks of bottlenecks in the place of bottlenecks, whatever the file says.
_NESTED = ("m", "l", "x")


def _c3k2(arguments: Sequence[Any], channels: int, size: Scale) -> tuple[list[Any], int]:
    """Of [channels, whether blocks of bottlenecks are inside, the share of the channels that they work on].

    Such a block works on half of what it is given.
    """
    nested, share = arguments[1] or size in _NESTED, arguments[2] if len(arguments) > 2 else 0.5
    inside = int(channels * share)
    return [arguments[0], nested, share, False], inside // 2 if nested else inside


YOLO11 = DetectorFamily("YOLO11", "yolo11", "C3k2", _c3k2, PUBLISHED_PARAMETERS)
