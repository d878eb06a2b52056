"""What `opbench deploy` is asked to take along: an operator, a network with swaps in it, or anybody's module.

Each becomes a suite of one workload, which is planned, measured and written down like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from opbench import registry
from opbench.conformance.target import assignments
from opbench.conformance.target import parse as parse_name
from opbench.errors import nearest
from opbench.models import deployed
from opbench.models.costs import parse_swap
from opbench.models.replacements import resolved
from opbench.models.sites import evaluate, input_shape
from opbench.models.target import load_model
from opbench.schema import OpbenchError
from opbench.slug import slug
from opbench.suites.text import suite_text
from opbench.tasks import SLOTS, groups

# Of an operator whose sizes aren't said.
USUAL = {"N": 1, "C": 64, "H": 40, "W": 40}
ITSELF = (
    "itself in float64: no operator was named, so that nothing says that it computes what it should, only that the "
    "files compute what it does"
)


class DeployTarget(NamedTuple):
    """What competes: the task and its dimensions, its contenders, and the file that declares them ("" for opbench's).

    `across`: there is nothing beside it, so that each runtime is held against torch. `definition` says what the files
    are held against.
    """

    name: str
    task: str
    dims: Mapping[str, int]
    contenders: Sequence[str]
    across: bool
    definition: str
    declared: str = ""

    def suite(self, runtimes: Sequence[str], spread: float, dtypes: Sequence[str] = ("float32",)) -> str:
        """Its TOML."""
        workload = {
            "task": self.task,
            "name": slug(self.name),
            "source": self.name,
            "dims": self.dims,
            "contenders": self.contenders,
            "dtypes": dtypes,
            "devices": ["cpu"],
            "modes": ["inference"],
            "spreads": [spread],
            "runtimes": runtimes,
            **({"across_runtimes": True} if self.across else {}),
        }
        return suite_text(f"{self.name} where it is deployed", ("[[workload]]", workload))


def parse_sizes(text: str) -> dict[str, int]:
    """`N=1,C=256,H=20,W=20`. Raises OpbenchError for anything else."""
    parts = [part for part in text.split(",") if part.strip()]
    sizes: dict[str, int] = {}
    for name, value in assignments("--shape", parts).items():
        if type(value) is not int or value < 1:
            raise OpbenchError(f"--shape {name}={value}: expected a whole number of at least 1, as in C=64")
        sizes[name] = value
    return sizes


def is_operator(target: str) -> bool:
    """Whether a target is an operator's name, and no file and no import path."""
    return ":" not in target and not target.endswith((".yaml", ".yml", ".pt", ".py", ".onnx"))


def operator_target(name: str, task: str, sizes: Mapping[str, int]) -> DeployTarget:
    """An operator beside the baseline of its task: as torch takes it by itself, and as each graph that can be exported.

    Raises OpbenchError for an unknown operator, task or size.
    """
    tasks = registry.tasks()
    if task and task not in tasks:
        raise OpbenchError(f"--task: {nearest('task', task, tasks)}")
    having = [one for one in (*SLOTS, *tasks) if name in registry.operators(one)]
    if not having:
        known = {operator.name: None for operator in registry.every_operator()}
        raise OpbenchError(registry.unknown_operator("operator", name, known))
    if task and task not in having:
        raise OpbenchError(f"--task {task}: it has no operator {name!r} ({name} is in: {', '.join(having)})")
    chosen = tasks[task or having[0]]
    operator = registry.operator(chosen.name, name)
    known = dict.fromkeys((*chosen.dims, *chosen.defaults, *operator.settings))
    for size in sizes:
        if size not in known:
            raise OpbenchError(f"--shape {size}: {nearest('size', size, known)}")
    dims = {axis: sizes.get(axis, USUAL[axis]) for axis in chosen.dims if axis in USUAL}
    dims |= {"G": groups(dims["C"])} if "G" in chosen.dims and "C" in dims else {}
    dims |= sizes
    if missing := [axis for axis in chosen.dims if axis not in dims]:
        raise OpbenchError(f"--shape: {', '.join(missing)} missing (task {chosen.name!r} needs {chosen.dims})")
    usual = resolved(operator, "auto", "cpu")
    table = operator.implementations.values()
    able = [one for one in table if one is usual or not (one.obstacle_to_export or one.missing())]
    names = [f"{name}[{one.name}]" for one in able if "cpu" in one.devices]
    if all(one.obstacle_to_export for one in able):
        raise OpbenchError(f"{name} can't be exported: {able[0].obstacle_to_export}")
    across = chosen.baseline.partition("[")[0] == name
    return DeployTarget(
        name,
        chosen.name,
        dims,
        list(dict.fromkeys((chosen.baseline, *names))),
        across,
        f"the float64 definition of {name}",
    )


def network_target(
    target: str,
    swaps: Sequence[str],
    size: tuple[int, ...],
    sizes: Mapping[str, int],
    arguments: Sequence[str],
    seed: int,
) -> DeployTarget:
    """A network or any module of one (N, C, H, W), as it is and with each swap in it.

    Raises OpbenchError where it can't be loaded, called at this size, or swapped.
    """
    for one in sizes:
        if one not in USUAL:
            raise OpbenchError(f"--shape {one}: {nearest('size', one, USUAL)}")
    parsed = [parse_swap(text) for text in swaps]
    model = load_model(target, arguments, seed).eval().float()
    if sizes.keys() >= {"H", "W"}:
        size = (*size[:-2], sizes["H"], sizes["W"])
    size = (sizes["C"], *size[-2:]) if "C" in sizes else size
    shape = (sizes.get("N", 1), *input_shape(model, size)[1:])
    dims = dict(zip("NCHW", shape, strict=True))
    try:
        evaluate(model, ((torch.zeros(shape),), {}))
    except OpbenchError as error:
        raise OpbenchError(f"{target}: {error}; say its sizes by --shape N=1,C=3,H=64,W=64") from error
    contenders = [f"{deployed.AS_IT_IS}[torch]"]
    for name, chosen in deployed.swap_names(parsed).items():
        deployed.try_swaps(model, chosen, torch.zeros(shape))
        contenders += [f"{name}[{implementation}]" for implementation in deployed.implementations(chosen)]
    definition = (
        "the same network in float64, with the definition in the place of every core that opbench knows"
        if swaps
        else ITSELF
    )
    declared = _declared(target, swaps, arguments, seed)
    return DeployTarget(target, deployed.TASK, dims, contenders, not swaps, definition, declared)


def _declared(target: str, swaps: Sequence[str], arguments: Sequence[str], seed: int) -> str:
    """A file that declares the task, from wherever it is loaded."""
    where = target
    if target.endswith((".yaml", ".yml")):
        where = str(Path(target).resolve()) if Path(target).is_file() else target
    elif (name := parse_name(target)).is_file:
        where = f"{Path(name.source).resolve()}:{name.name}"
    return (
        '"""Declares the task of suite.toml: written by `opbench deploy`."""\n\n'
        "from opbench.models.deployed import register_deployed\n\n"
        f"register_deployed({where!r}, swaps={tuple(swaps)!r}, arguments={tuple(arguments)!r}, seed={seed!r})\n"
    )
