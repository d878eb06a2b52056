"""What a swap costs a network: the model as it is beside the model with each swap, counted and timed side by side."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench import registry
from opbench.build import TORCH_DTYPES, Built, build
from opbench.errors import said
from opbench.measure.cuda import ColdEvents, TorchDevice
from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.latency import Clock, WallClock, measure_panel
from opbench.measure.memory import measure_memory
from opbench.measure.parameters import count_parameters
from opbench.measure.probes import Probes
from opbench.measure.watching import DisturbanceWatch
from opbench.models import network_case
from opbench.models.costs import BASELINE, CostRequest, Costs, CostVariant, Proven
from opbench.models.layers import profile
from opbench.models.places import places_of
from opbench.models.replacements import dims_of, suited
from opbench.models.sites import functional_upsampling
from opbench.models.swap import Change
from opbench.models.target import load_model
from opbench.models.variants import (
    VariantNetwork,
    appoint,
    check_request,
    image,
    implementation_of,
    left,
    networks,
    places,
    rivals,
    taken,
)
from opbench.schema import Case, Latency, Memory, Mode, OpbenchError
from opbench.tasks import DOWNSAMPLE2X
from opbench.verify.gate import check, reference

# A part is proven on its own channels, on at most this many pixels each way: the definition takes minutes on a whole
# feature map, and no core treats the thousandth pixel otherwise than the fortieth.
PROVEN_PIXELS = 40
LEAST_ROUNDS = 8


def measure(request: CostRequest) -> Costs:
    """Load -> swap -> prove the parts -> count -> memory -> latency, all variants in turns -> layers.

    Raises OpbenchError for a model that can't be loaded, called at this size, swapped or moved to the device, and for
    a part that is not what its definition says: a wrong answer is never timed.
    """
    check_request(request)
    with _watched(request) as around:
        return _measured(request, around)


@contextlib.contextmanager
def _watched(request: CostRequest) -> Iterator[DisturbanceWatch | None]:
    """What watches the timing on the CPU, made before the model's own code runs; threads as asked for meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.threads or before)
    try:
        if request.device != "cpu":
            yield None
            return
        watch = DisturbanceWatch(DisturbanceGuard(), Probes(torch.get_num_threads()))
        try:
            yield watch
        finally:
            watch.guard.kernel.close()
    finally:
        torch.set_num_threads(before)


def _measured(request: CostRequest, around: DisturbanceWatch | None) -> Costs:
    request.announce("loading the model")
    model = load_model(request.target, request.arguments, request.seed)
    x = image(model, request)
    out_of_reach = functional_upsampling(model, example=x)  # and the first call at this size, whatever is swapped
    wanted = places(model, request, x)
    held = networks(model, request, x, wanted)
    proven = _prove(held, request)
    given = x.to(device=request.device, dtype=TORCH_DTYPES[request.dtype])
    deformable = {}
    for network in held:
        deformable[network.name] = network_case.spread_offsets(network.model, x, request.spread, request.seed)
        network.model.to(device=request.device, dtype=TORCH_DTYPES[request.dtype])
        appoint(network, request)
    counted = {network.name: _counted(network, request, given) for network in held}
    timed = _timed(held, request, given, around)
    variants = []
    for network in held:
        request.announce(f"layers: {network.name}")
        variants.append(
            CostVariant(
                name=network.name,
                title=network.title,
                changes=network.changes,
                params=count_parameters(network.model),
                **counted[network.name],
                latency=timed[network.name],
                profile=profile(
                    network.model,
                    given,
                    changed=[name for change in network.changes for name in change.names],
                    track_memory=request.device == "cpu" and not network.compiles,
                ),
                deformable=deformable[network.name],
            )
        )
    return Costs(
        target=request.target,
        model=type(model).__name__,
        input_shape=tuple(x.shape),
        dtype=request.dtype,
        device=request.device,
        mode=request.mode,
        spread=request.spread,
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        variants=tuple(variants),
        proven=proven,
        out_of_reach=out_of_reach,
        passed_over=left(model, wanted),
        rivals=rivals(wanted),
        disturbed=_disturbed(timed, around),
        places=places_of(model, x),
        taken=taken(model, wanted),
    )


def _disturbed(timed: Mapping[str, Latency], around: DisturbanceWatch | None) -> str:
    """What was seen and what to do; nothing where every variant was timed."""
    if around is None or not any(latency.stop == "disturbed" for latency in timed.values()):
        return ""
    return f"{around.guard.why}; use fewer threads (--threads 1), a longer --budget, or another hour"


def _prove(networks: Sequence[VariantNetwork], request: CostRequest) -> tuple[Proven, ...]:
    """Every kind of part on its own channels. Raises OpbenchError for one that is wrong."""
    found: dict[str, Proven] = {}
    for network in networks:
        if len(network.swaps) != 1:  # all together hold the same parts
            continue
        (one,) = network.swaps
        implementation = implementation_of(one, request)
        for change in network.changes:
            operator = suited(one.with_, change.shape_in, change.shape_out)
            (channels, height, width), outputs = change.shape_in[1:], change.shape_out[1]
            part = f"{one.with_}[{implementation.name}] of {channels} channels"
            part += f" to {outputs}" if outputs != channels and operator.task == DOWNSAMPLE2X.name else ""
            why = _undefined(operator.task, change, network.model.get_submodule(change.name))
            if part in found:
                continue
            if why:
                found[part] = Proven(part, None, why)
                continue
            request.announce(f"proving {part}")
            dims = dims_of(operator, 1, channels, min(height, PROVEN_PIXELS), min(width, PROVEN_PIXELS), outputs)
            spread = request.spread if registry.tasks()[operator.task].deformable else None
            case = Case(
                task=operator.task,
                workload=f"{channels} channels",
                operator=operator.name,
                implementation=implementation.name,
                dims=dims,
                dtype=request.dtype,
                device=request.device,
                mode=request.mode,
                spread=spread,
                seed=request.seed,
            )
            built = build(case)
            verdict = check(built, reference(built))
            if not verdict.correct:
                raise OpbenchError(f"{part} is not what its definition says, and isn't timed: {verdict.reason}")
            found[part] = Proven(part, verdict)
    return tuple(found.values())


def _undefined(task: str, change: Change, module: nn.Module) -> str:
    """Why no definition judges the part, or nothing."""
    if task == "upsample2x" and change.shape_out[2] != 2 * change.shape_in[2]:
        return f"it upsamples by {change.shape_out[2] // change.shape_in[2]}, and is defined here for 2"
    if task == DOWNSAMPLE2X.name:
        return ""
    if change.shape_in[1] != change.shape_out[1]:
        return "it changes the channels, and is defined here for as many in as out"
    window = [_side(getattr(module, name, usual)) for name, usual in (("kernel_size", 3), ("dilation", 1))]
    if task == "conv3x3" and window != [3, 1]:
        return f"its window is {window[0]}, dilated by {window[1]}, and is defined here for 3 and 1"
    return ""


def _side(value: Any) -> Any:
    """Torch's layers hold (height, width)."""
    return value[0] if isinstance(value, tuple) else value


def _counted(network: VariantNetwork, request: CostRequest, x: Tensor) -> dict[str, Any]:
    """MACs in the asked mode, and memory in both."""
    request.announce(f"counting: {network.name}")

    def of(mode: Mode) -> Built:
        return network_case.built(network.name, network.model, x, mode, dtype=request.dtype, compiles=network.compiles)

    def memory(mode: Mode) -> Memory:
        with _told(network, request, mode):
            case = of(mode)
            network_case.caller(case)()  # what it keeps from its first call on (anchors, workspaces) is not the call's
            return measure_memory(case)

    with _told(network, request, request.mode):
        macs, stock = network_case.count(of(request.mode))
    found = {"macs": macs, "stock": stock, "memory": memory("inference")}
    try:
        return {**found, "training_memory": memory("training")}
    except OpbenchError as error:
        if request.mode == "training":
            raise
        return {**found, "training_memory": Memory("not measured", None, None, note=str(error))}


def _timed(
    networks: Sequence[VariantNetwork], request: CostRequest, x: Tensor, around: DisturbanceWatch | None
) -> dict[str, Latency]:
    """All variants in turns, in random order, as a panel's contenders are; rounds that were disturbed are left out."""
    request.announce("timing")
    calls: dict[str, Callable[[], object]] = {}
    first: dict[str, float] = {}
    for network in networks:
        call = network_case.caller(
            network_case.built(network.name, network.model, x, request.mode, dtype=request.dtype)
        )
        with _told(network, request, request.mode):
            begin = time.perf_counter()
            call()
            first[network.name] = time.perf_counter() - begin
        calls[network.name] = call
    clock: Clock = ColdEvents(TorchDevice()) if request.device == "cuda" else WallClock()
    for call in calls.values():
        clock.prepare(call)
    return measure_panel(
        calls,
        BASELINE,
        clock=clock,
        precision=request.precision,
        budget_seconds=request.budget_seconds,
        least_rounds=LEAST_ROUNDS,
        first_call_seconds=first,
        seed=request.seed,
        around=around,
    )


@contextlib.contextmanager
def _told(network: VariantNetwork, request: CostRequest, mode: Mode) -> Iterator[None]:
    """Whatever the network raises, as one line that says which variant it was, and at which shape."""
    try:
        yield
    except OpbenchError:
        raise
    except Exception as error:  # a model may raise anything
        shape = "x".join(map(str, (request.batch, "C", *request.size[-2:])))
        raise OpbenchError(
            f"{request.target} ({network.name}) can't be called in {mode} with {shape} in {request.dtype} "
            f"on {request.device}: {said(error)}"
        ) from error
