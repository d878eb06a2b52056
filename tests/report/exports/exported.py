"""What the tests of every export share: runs that try it, and the values that must be found again."""

import msgspec
from factory import make_case, make_counts, make_failure, make_latency, make_record, make_run
from hostile import EVIL

from opbench.schema import Counted, Skipped

PANEL = "upsample2x/yolov8n-p5/float32/cpu/inference"
COMMIT = "0123abcd" * 5


def small_run(**changes):
    """One panel: a baseline of 1 ms, a contender of 3 ms, one that is wrong, one that was planned away."""
    records = [
        make_record(make_case("nearest[torch]"), seconds=1e-3),
        make_record(make_case("carafe[cpu]"), seconds=1e-3, ratio=3.0),
        make_failure(make_case("carafe[mine]"), "incorrect", "output differs", counts=make_counts()),
    ]
    skipped = (Skipped(f"{PANEL}/carafe[triton]", "carafe[triton] runs on cuda only"),)
    return make_run(records, **{"skipped": skipped, **changes})


def one_round_run():
    """Its ratio has no interval: the ends are 0 and infinity."""
    return make_run([make_record(make_case(name), rounds=1) for name in ("nearest[torch]", "carafe[cpu]")])


def failed_run():
    return make_run([make_failure(make_case(), "crashed", "killed")])


def evil_run():
    """Names that try to be markup, formulas, label ends and paths; the commit is a hash, as asv needs one."""
    contenders = ("=1+1", "@SUM(A1)", '"} 1\nopbench_evil 1', EVIL)
    cases = [msgspec.structs.replace(make_case(), operator=name, implementation=name) for name in contenders]
    counts = Counted(None, {EVIL: 3}, note=EVIL)
    records = [make_record(case) for case in cases]
    records[0] = msgspec.structs.replace(
        records[0], counts=msgspec.structs.replace(records[0].counts, stock_torch=counts), notes=(EVIL,)
    )
    return make_run(records)


def two_methods_run():
    """Each case timed in two ways, as on a GPU: cold and hot."""
    records = [
        make_record(
            make_case(name),
            latencies=tuple(
                make_latency(1e-3, ratio, method=method, seed=name) for method in ("cuda-cold", "cuda-hot")
            ),
        )
        for name, ratio in (("nearest[torch]", 1.0), ("carafe[triton]", 2.0))
    ]
    return make_run(records)
