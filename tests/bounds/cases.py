"""What the error bounds are tried on: right implementations, at awkward sizes, by every route of the libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from opbench import registry
from opbench.schema import DTYPES, MODES, Case


@dataclass(frozen=True)
class Route:
    """How torch and its libraries are held to one way of computing: before they load, and after."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    onednn: bool = True
    threads: int = 1


def _held(onednn: str, aten: str, mkl: str) -> dict[str, str]:
    return {"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten, "MKL_ENABLE_INSTRUCTIONS": mkl}


ROUTES = (
    Route("as installed"),
    # Threads that wait busily take the cores of the process beside them.
    Route("two threads", {"OMP_WAIT_POLICY": "PASSIVE"}, threads=2),
    Route("without oneDNN", onednn=False),
    Route("SSE4.1", _held("SSE41", "default", "SSE4_2")),
    Route("AVX2", _held("AVX2", "avx2", "AVX2")),
    Route("AVX-512", _held("AVX512_CORE", "avx512", "AVX512")),
)


def routes() -> tuple[Route, ...]:
    """Those that this machine has."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = next((line for line in file if line.startswith("flags")), "")
    return tuple(route for route in ROUTES if route.name != "AVX-512" or "avx512f" in flags)


@dataclass(frozen=True)
class Subject:
    """An operator at one shape."""

    task: str
    operator: str
    dims: Mapping[str, int]
    spread: float | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.task}/{self.operator} {' '.join(f'{key}={value}' for key, value in self.dims.items())}"

    def cases(self, seed: int, turn: int) -> Iterator[Case]:
        """Every implementation that runs here, in the dtype and mode whose turn it is."""
        dtype, mode = DTYPES[turn % len(DTYPES)], MODES[turn // len(DTYPES) % len(MODES)]
        for name, implementation in registry.operator(self.task, self.operator).implementations.items():
            runs = "cpu" in implementation.devices and dtype in implementation.dtypes and not implementation.missing()
            # Compiled code would be compiled for each of thousands of cases; what it sums is in the kernels' suite.
            if runs and not implementation.compiles:
                yield Case(
                    self.task, "bounds", self.operator, name, dict(self.dims), dtype, "cpu", mode, self.spread, seed
                )


def _each(task: str, names: str, *shapes: Mapping[str, int], spread: float | None = None) -> list[Subject]:
    return [Subject(task, name, dims, spread) for name in names.split() for dims in shapes]


_UP = {"g": 1, "k_up": 5, "k_enc": 3, "c_mid": 64}
_SAMPLING = {"k": 3, "stride": 1, "dilation": 1}
OPERATORS = (
    *_each(
        "upsample2x",
        "nearest bilinear bicubic nearest-conv3x3 bilinear-conv3x3 deconv pixel-shuffle spatial-attention carafe "
        "yolo-carafe",
        {"N": 1, "C": 128, "H": 9, "W": 7, **_UP},
        {"N": 2, "C": 32, "H": 13, "W": 16, **_UP},
    ),
    *_each(
        "upsample2x",
        "dysample",
        {"N": 1, "C": 128, "H": 9, "W": 7, "style": "pl", "groups": 4, "dyscope": True},
        {"N": 2, "C": 32, "H": 13, "W": 16, "style": "lp", "groups": 4, "dyscope": False},
        spread=2.0,
    ),
    *_each(
        "upsample2x",
        "eucb",
        {"N": 1, "C": 128, "H": 9, "W": 7, "activation": "hswish"},
        {"N": 2, "C": 32, "H": 13, "W": 16, "activation": "relu"},
    ),
    *_each(
        "conv3x3",
        "conv3x3 depthwise3x3 depthwise-separable dcnv2 dcnv3 yolo-dcnv3 dcnv4",
        {"N": 1, "C": 128, "H": 9, "W": 11, "G": 4},
        {"N": 2, "C": 32, "H": 14, "W": 12, "G": 2},
        spread=2.0,
    ),
    *_each(
        "conv3x3",
        "rfaconv",
        {"N": 1, "C": 40, "H": 9, "W": 11, "G": 1},
        {"N": 2, "C": 36, "H": 14, "W": 12, "G": 1},
    ),
    *_each(
        "conv3x3",
        "pconv",
        {"N": 1, "C": 128, "H": 9, "W": 11, "G": 1},
        {"N": 2, "C": 32, "H": 14, "W": 12, "G": 1},
    ),
    *_each(
        "conv3x3",
        "gsconv",
        {"N": 1, "C": 64, "H": 9, "W": 11, "G": 1},
        {"N": 2, "C": 32, "H": 14, "W": 12, "G": 1},
    ),
    *_each(
        "conv3x3",
        "vov-gsconv",
        {"N": 1, "C": 64, "H": 9, "W": 11, "G": 1},
        {"N": 2, "C": 16, "H": 14, "W": 12, "G": 1, "n": 2, "shuffle": "halves"},
    ),
    *_each(
        "conv3x3",
        "odconv",
        {"N": 1, "C": 64, "H": 9, "W": 11, "G": 1},
        {"N": 3, "C": 32, "H": 14, "W": 12, "G": 1},
    ),
    *_each(
        "conv3x3",
        "ldconv",
        {"N": 1, "C": 128, "H": 9, "W": 11, "G": 4, "num_param": 9},
        {"N": 2, "C": 8, "H": 9, "W": 6, "G": 2, "num_param": 9},
        spread=2.0,
    ),
    *_each(
        "conv3x3",
        "snake",
        {"N": 1, "C": 64, "H": 9, "W": 11, "G": 4, "k": 5},
        {"N": 2, "C": 8, "H": 9, "W": 6, "G": 2, "k": 3},
        spread=1.0,
    ),
    *_each(
        "downsample2x",
        "conv3x3-stride2 depthwise-stride2 maxpool-conv avgpool-conv spdconv adown hwd carafe-downsample",
        {"N": 1, "C": 64, "O": 128, "H": 10, "W": 18, "G": 4},
        {"N": 2, "C": 32, "O": 32, "H": 14, "W": 12, "G": 2},
        spread=2.0,
    ),
    *_each(
        "downsample2x",
        "ldconv",
        {"N": 1, "C": 32, "O": 64, "H": 10, "W": 14, "G": 4, "num_param": 9},
        {"N": 2, "C": 8, "O": 12, "H": 11, "W": 8, "G": 2, "num_param": 5},
        spread=2.0,
    ),
    *_each(
        "downsample2x",
        "dcnv3 yolo-dcnv3",
        {"N": 1, "C": 64, "O": 128, "H": 9, "W": 14, "G": 4},
        {"N": 2, "C": 24, "O": 24, "H": 12, "W": 11, "G": 2},
        spread=2.0,
    ),
    # Offsets predicted from few channels: the sums are short.
    *_each("conv3x3", "dcnv2 dcnv3 dcnv4", {"N": 2, "C": 6, "H": 12, "W": 9, "G": 2}, spread=2.0),
    *_each(
        "downsample2x",
        "rfaconv",
        {"N": 1, "C": 40, "O": 24, "H": 9, "W": 14, "G": 1},
        {"N": 2, "C": 16, "O": 32, "H": 12, "W": 11, "G": 1},
    ),
    *_each(
        "carafe_core",
        "carafe",
        {"N": 1, "C": 64, "H": 13, "W": 9, "k": 5, "g": 1, "s": 2},
        {"N": 2, "C": 12, "H": 8, "W": 11, "k": 3, "g": 2, "s": 3},
    ),
    *_each(
        "dcnv3_core",
        "dcnv3",
        {"N": 1, "C": 64, "H": 13, "W": 17, "G": 4, **_SAMPLING},
        {"N": 2, "C": 24, "H": 8, "W": 40, "G": 2, "k": 3, "stride": 1, "dilation": 2},
        spread=2.0,
    ),
)


def _networks(size: int) -> list[Subject]:
    dims = {"N": 1, "H": size, "W": size, "width": 25, "depth": 33}
    return _each("yolov8_model", "yolov8 yolov8-carafe yolov8-dcnv3 yolov8-carafe-dcnv3", dims, spread=2.0)


PARTS: Mapping[str, tuple[Subject, ...]] = {
    "operators": OPERATORS,
    "networks-64": tuple(_networks(64)),
    "networks-160": tuple(_networks(160)),
}
