"""A contender in int8, in a process of its own: `python -m opbench.deploy.quantising`.

ONNX Runtime's static quantisation of the float32 file, calibrated with draws of the case's inputs from other seeds, and
executed by each runtime; OpenVINO's own (nncf) where it is installed. What is said of it is a ratio of signal to error:
no bound follows from a definition for numbers of eight bits, and none is claimed.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from opbench import registry
from opbench.build import Built, build, input_source
from opbench.deploy.nouns import QuantisedArtifact, ShippedArtifact
from opbench.documents import replace_file
from opbench.errors import said
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.runtimes import of_onnx
from opbench.schema import Case
from opbench.verify.gate import reference

SECONDS = 600.0
# Draws of the inputs from which the ranges of the activations are taken.
CALIBRATION = 8
STATIC = "ONNX Runtime's static quantisation"
NNCF = "nncf"
EXECUTED: Mapping[str, Callable[[bytes, int], Callable[..., Tensor]]] = {
    "onnxruntime": of_onnx.onnxruntime_session,
    "openvino": of_onnx.openvino_request,
}


class QuantiseJob(msgspec.Struct, frozen=True):
    """A contender in torch, the float32 file that was written of it in a folder, and who executes it in int8."""

    case: Case
    extensions: tuple[str, ...]
    folder: str
    file: str
    runtimes: tuple[str, ...]
    threads: int


class InInt8(msgspec.Struct, frozen=True, tag=True):
    """All that was found of a job."""

    found: tuple[QuantisedArtifact, ...]


def quantised(
    case: Case,
    extensions: tuple[str, ...],
    folder: Path,
    artifact: ShippedArtifact,
    runtimes: Sequence[str],
    threads: int,
) -> tuple[QuantisedArtifact, ...]:
    """What becomes of a file in int8 in each of the runtimes that execute such: figures, or why there are none."""
    asked = tuple(name for name in runtimes if name in EXECUTED)
    if not asked:
        return ()
    with Child[InInt8](["-m", __name__], InInt8, broken="quantising failed") as child:
        child.send(QuantiseJob(case, extensions, str(folder), artifact.file, asked, threads))
        answer = child.receive(SECONDS)
    if isinstance(answer, Death):
        lost = f"its process {answer.message}"
        return tuple(QuantisedArtifact(case.named, name, STATIC, CALIBRATION, reason=lost) for name in asked)
    return answer.found


def _answers(job: QuantiseJob) -> Iterator[InInt8]:
    logging.disable()  # what a quantiser tells of each node
    registry.load()
    for path in job.extensions:
        registry.load_file(path)
    made = build(job.case)
    expected = reference(made).expected["output"]
    draws = calibration_inputs(made, CALIBRATION)
    content = Path(job.folder, job.file).read_bytes()
    found = [*_static(job, content, made, expected, draws)]
    if "openvino" in job.runtimes:
        found.append(_by_nncf(job, content, made, expected, draws))
    yield InInt8(tuple(found))


def calibration_inputs(made: Built, count: int) -> list[tuple[Tensor, ...]]:
    """The case's inputs drawn from other seeds, in float32."""
    case = made.case
    source, dims = input_source(case, made.operator)
    drawn = []
    for draw in range(count):
        generator = torch.Generator().manual_seed(1000 * (case.seed + 1) + draw)
        drawn.append(tuple(value.float() for value in source(dims, case.spread or 0.0, generator).values()))
    return drawn


def decibels(got: Tensor, expected: Tensor) -> float:
    """The signal over the error: 10 log10 of the sum of the squares of the one over that of the other.

    inf where there is no error, nan where an output is not finite, -inf where there is an error and no signal.
    """
    error = (got.double() - expected).square().sum().item()
    signal = expected.square().sum().item()
    if not error:
        return math.inf
    if not math.isfinite(error):
        return math.nan
    return 10 * math.log10(signal / error) if signal else -math.inf


def _static(
    job: QuantiseJob, content: bytes, made: Built, expected: Tensor, draws: Sequence[tuple[Tensor, ...]]
) -> Iterator[QuantisedArtifact]:
    name = f"{job.file.removesuffix('.onnx')}-int8.onnx"
    made_by = partial(QuantisedArtifact, contender=job.case.named, method=STATIC, calibration=CALIBRATION)
    try:
        small = _quantised_file(content, draws)
    except Exception as error:  # of whatever kind a quantiser raises
        for runtime in job.runtimes:
            yield made_by(runtime=runtime, reason=f"it can't be quantised: {said(error, 400)}")
        return
    replace_file(Path(job.folder) / name, small)
    for runtime in job.runtimes:
        try:
            got = EXECUTED[runtime](small, job.threads)(*made.inputs)
        except Exception as error:  # of whatever kind a runtime raises
            reason = f"it can't be executed: {said(error, 400)}"
            yield made_by(runtime=runtime, file=name, bytes=len(small), reason=reason)
            continue
        figure, reason = _figure(got, expected)
        yield made_by(runtime=runtime, file=name, bytes=len(small), decibels=figure, reason=reason)


def _figure(got: Tensor, expected: Tensor) -> tuple[float | None, str]:
    if got.shape != expected.shape:
        return None, f"its output is {tuple(got.shape)}, expected {tuple(expected.shape)}"
    found = decibels(got, expected)
    if math.isfinite(found):
        return found, ""
    if math.isnan(found):
        return None, "its output is no number"
    return None, "no error at all" if found > 0 else "the definition's output is zero everywhere"


def _quantised_file(content: bytes, draws: Sequence[tuple[Tensor, ...]]) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Draws(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(draws)

        def get_next(self) -> dict[str, Any] | None:
            inputs = next(self._left, None)
            return None if inputs is None else {f"input{at}": value.numpy() for at, value in enumerate(inputs)}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (str(Path(folder, f"{name}.onnx")) for name in ("plain", "prepared", "small"))
        Path(plain).write_bytes(content)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            Draws(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return Path(small).read_bytes()


def _by_nncf(
    job: QuantiseJob, content: bytes, made: Built, expected: Tensor, draws: Sequence[tuple[Tensor, ...]]
) -> QuantisedArtifact:
    made_by = partial(QuantisedArtifact, job.case.named, "openvino", NNCF, CALIBRATION)
    try:
        import nncf
    except ImportError:
        return made_by(reason="not measured: nncf is not installed: pip install nncf")
    try:
        model = of_onnx.openvino_model(content)
        small = nncf.quantize(model, nncf.Dataset([[one.numpy() for one in inputs] for inputs in draws]))
        got = of_onnx.openvino_compiled(small, job.threads)(*made.inputs)
    except Exception as error:  # of whatever kind it raises
        return made_by(reason=f"it can't be quantised or executed: {said(error, 400)}")
    figure, reason = _figure(got, expected)
    return made_by(decibels=figure, reason=reason)


if __name__ == "__main__":
    serve(QuantiseJob, _answers)
