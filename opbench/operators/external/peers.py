"""The table of others' compiled operators: `ADAPTERS`, and those of them that are installed here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from opbench.operators.common.looking import once
from opbench.operators.external import dcnv4, internimage, mmcv, torchvision
from opbench.schema import Implementation


def _importable(*names: str) -> Callable[[], str | None]:
    """Whether all of a peer's modules can be imported; if not, which one says what."""

    def missing() -> str | None:
        for name in names:
            try:
                importlib.import_module(name)
            except (ImportError, OSError, RuntimeError) as error:
                return f"{name} is installed but can't be imported: {error}"
        return None

    return once(missing)


# Their kernels are no operations of torch: its dispatcher doesn't see what they move.
_ON_CUDA: Mapping[str, Any] = {"devices": ("cuda",), "deterministic_backward": False, "dispatched": False}
ADAPTERS: Mapping[str, Mapping[str, Implementation]] = {
    "carafe": {
        "mmcv": Implementation(
            "mmcv",
            mmcv.carafe,
            missing=_importable("mmcv.ops"),
            note="mmcv.ops.carafe",
            package="mmcv",
            **_ON_CUDA,
        )
    },
    "dcnv3": {
        "torchvision": Implementation(
            "torchvision",
            torchvision.dcnv3,
            dtypes=("float64", "float32"),
            missing=torchvision.missing,
            deterministic_backward=False,
            note="torchvision.ops.deform_conv2d with unit weights, between two transpositions",
            package="torchvision",
            traffic=torchvision.TRAFFIC,
        ),
        "DCNv3": Implementation(
            "DCNv3",
            internimage.dcnv3,
            dtypes=("float32", "float16"),
            missing=_importable("DCNv3"),
            note="InternImage's CUDA extension",
            package="DCNv3",
            **_ON_CUDA,
        ),
        "DCNv4": Implementation(
            "DCNv4",
            dcnv4.dcnv3,
            dtypes=("float32", "float16"),
            missing=_importable("DCNv4.functions"),
            note="DCNv4's CUDA extension, offsets and masks copied together first",
            package="DCNv4",
            **_ON_CUDA,
        ),
    },
    "dcnv4": {
        "DCNv4": Implementation(
            "DCNv4",
            dcnv4.dcnv4,
            dtypes=("float32", "float16"),
            missing=_importable("DCNv4.functions"),
            note="DCNv4's CUDA extension",
            package="DCNv4",
            **_ON_CUDA,
        ),
    },
}

# How each is brought here.
INSTALLING: Mapping[str, str] = {
    "torchvision": "pip install torchvision, of the release that goes with this torch",
    "mmcv": "pip install openmim && mim install mmcv",
    "DCNv3": "build ops_dcnv3 of InternImage's repository (needs nvcc)",
    "DCNv4": "build DCNv4_op of DCNv4's repository (needs nvcc)",
}


def _installed(adapters: Mapping[str, Implementation]) -> Mapping[str, Implementation]:
    return {name: peer for name, peer in adapters.items() if importlib.util.find_spec(name) is not None}


CARAFE_PEERS = _installed(ADAPTERS["carafe"])
DCNV3_PEERS = _installed(ADAPTERS["dcnv3"])
DCNV4_PEERS = _installed(ADAPTERS["dcnv4"])
