"""A plan whose contenders only `toy_worker` knows, and a process that runs it: `python -m toy_plan DIR [--resume]`."""

import os
import sys
from pathlib import Path

from factory import make_case

from opbench import plan as planning
from opbench import suites
from opbench.documents import save
from opbench.engine.executor import LocalExecutor
from opbench.engine.limits import WorkerLimits
from opbench.engine.run import execute
from opbench.engine.supervisor import Supervisor
from opbench.schema import Panel, Plan, Settings

HERE = Path(__file__).parent
LIMITS = WorkerLimits(step_seconds=0.5, own_seconds=60.0, memory_bytes=1 << 40)
REPLICAS = 2
# Of the run that is killed: long enough to be hit, most often, in the middle.
PANELS = 12


def toy_plan(panels=4, implementations=("ok", "also-ok")):
    laid_out = []
    for number in range(panels):
        cases = tuple(make_case(f"toy[{name}]", workload=f"w{number}") for name in implementations)
        laid_out.append(Panel(id=cases[0].panel_id, source="made up", baseline=cases[0].contender, cases=cases))
    return Plan("toy", tuple(laid_out), ())


def toy_panel(mode, *names, N, C):
    """One panel of the declared toy operator's implementations, on the CPU."""
    text = f"""
        [[workload]]
        task = "toy"
        name = "small"
        source = "made up"
        dims = {{ N = {N}, C = {C} }}
        devices = ["cpu"]
        contenders = {[f"double[{name}]" for name in names]}
    """
    (panel,) = planning.plan(suites.parse(text, "toy", where="test"), {"mode": [mode]}, cuda=False).panels
    return panel


def toy_settings(**changes):
    return Settings(**{"suite": "toy", "precision": 0.01, "budget_seconds": 1.0, "replicas": REPLICAS, **changes})


def toy_supervisor(limits=LIMITS, **changes):
    return Supervisor(limits=limits, worker="toy_worker", **changes)


def toy_run(
    folder, *, plan=None, settings=None, progress=lambda done, panel: None, resume=False, limits=LIMITS, **more
):
    """A run of the toy plan by toy workers."""
    with toy_supervisor(limits) as supervisor:
        return execute(
            plan or toy_plan(),
            settings or toy_settings(),
            folder,
            command="toy",
            progress=progress,
            executor=LocalExecutor(supervisor),
            finish=lambda run: save(run, folder / "run.json"),
            resume=resume,
            **more,
        )


def search_path():
    """PYTHONPATH under which a child finds this module, the factory and this opbench."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1]), *filter(None, known)])


if __name__ == "__main__":
    toy_run(Path(sys.argv[1]), plan=toy_plan(PANELS), resume="--resume" in sys.argv)
