"""Which part of a network a layer belongs to: backbone, neck or head, and whether it is inside a bottleneck."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

# A layer has at most one of the first three, and `bottleneck` besides.
PARTS = ("backbone", "neck", "head")
BOTTLENECK = "bottleneck"
ROLES = (*PARTS, BOTTLENECK)

# A block of two or three convolutions around a residual connection, by the end of its class's name: torchvision's and
# ultralytics' Bottleneck and BasicBlock, RepBottleneck (YOLOv9), CIB (YOLOv10), the Bottleneck_DCNv3 of a write-up.
_BLOCK = re.compile(r"bottleneck|basicblock|^cib$|^resnetblock$", re.IGNORECASE)
# How frameworks other than ultralytics name the parts of a network; the innermost name counts (backbone.fpn: neck).
_NAMED = {
    "backbone": re.compile(r"^(?:backbone|trunk)$"),
    "neck": re.compile(r"^(?:neck|fpn|pan|pafpn|bifpn)$"),
    "head": re.compile(r"(?:^|_)heads?$"),
}


def roles(model: nn.Module) -> Mapping[str, frozenset[str]]:
    """Dotted name -> the roles of the module there, under every name that it has.

    A network of ultralytics says itself where its backbone ends: its head is the last layer (`Detect`, `Segment`,
    `RTDETRDecoder`, ...), its neck what lies between. In any other one the names of its parts say it
    ("backbone.layer1.0", "roi_heads.mask_head"), or nothing does.
    """
    found: dict[str, frozenset[str]] = {}
    described = dict(_described(model))
    inside: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        part = _part(name, described)
        within = any(name.startswith(f"{block}.") for block in inside)
        found[name] = frozenset((*([part] if part else []), *([BOTTLENECK] if within else [])))
        if _BLOCK.search(type(module).__name__):
            inside.append(name)
    return found


def _described(model: nn.Module) -> Iterator[tuple[str, Sequence[str]]]:
    """The name of each sequence of layers that comes with ultralytics' description, and the part of each layer."""
    for name, module in model.named_modules():
        text, layers = getattr(module, "yaml", None), getattr(module, "model", None)
        if not isinstance(text, Mapping) or not isinstance(layers, nn.Sequential) or "backbone" not in text:
            continue
        depth, last = len(text["backbone"]), len(layers) - 1
        parts = ["head" if at == last else "backbone" if at < depth else "neck" for at in range(len(layers))]
        yield (f"{name}.model" if name else "model"), parts


def _part(name: str, described: Mapping[str, Sequence[str]]) -> str:
    for layers, parts in described.items():
        if name.startswith(f"{layers}."):
            return parts[int(name[len(layers) + 1 :].partition(".")[0])]
    for word in reversed(name.split(".")):
        for part, pattern in _NAMED.items():
            if pattern.search(word):
                return part
    return ""
