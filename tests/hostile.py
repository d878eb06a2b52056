"""A run whose every free text tries to be markup, a terminal escape, a path or a script."""

import msgspec
from factory import make_case, make_counts, make_environment, make_failure, make_memory, make_record, make_run

from opbench.schema import Counted, Panel, Settings, Skipped

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> | `tick` ``` [link](javascript:alert(3)) "
    "![img](http://evil/x.png) **bold** &amp; @everyone $x$ \\| ../../etc/passwd\n\n# heading\n- item\n"
    "\x1b[31mred\x07\u202e <!-- x --> <!-- /opbench:x --> ~~gone~~ 'quote\" [red]rich[/red] end\\"
)


def evil_case(contender, **changes):
    return msgspec.structs.replace(make_case(), operator=contender, implementation=EVIL, workload=EVIL, **changes)


def make_hostile_run():
    missed = Counted(None, {EVIL: 3}, note=EVIL)
    counts = make_counts(torch=Counted(1_000_000, {EVIL: 1}), fvcore=missed, stock_torch=missed, stock_fvcore=missed)
    shared = {"task": EVIL, "dims": {"N": 1, EVIL: 2}, "spread": 0.5}
    cases = [evil_case(name, **shared) for name in ("base", EVIL, "broken")]
    timed = [make_record(case, counts=counts, memory=make_memory(note=EVIL)) for case in cases[:2]]
    latencies = [msgspec.structs.replace(record.latencies[0], method=EVIL) for record in timed]
    records = [
        *(msgspec.structs.replace(record, latencies=(lat,)) for record, lat in zip(timed, latencies, strict=True)),
        make_failure(cases[2], message=EVIL * 20),
    ]
    return make_run(
        records,
        panels=(Panel(cases[0].panel_id, EVIL, cases[0].contender, tuple(cases)),),
        skipped=(Skipped(EVIL, EVIL),),
        settings=Settings(suite=EVIL, precision=0.01, budget_seconds=1.0, filters={EVIL: (EVIL,)}, extensions=(EVIL,)),
        environment=make_environment(
            **dict.fromkeys(("machine", "cpu", "gpu", "python", "platform", "commit"), EVIL),
            versions={"torch": EVIL, EVIL: EVIL},
            details={EVIL: EVIL},
        ),
        command=EVIL,
        started=EVIL,
    )
