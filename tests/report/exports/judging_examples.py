"""Documents that judge something: good, bad and undecided ones of each kind, and ones whose every text is hostile."""

import msgspec
from exported import evil_run, failed_run, small_run
from factory import make_case, make_failure, make_latency, make_memory, make_record, make_run
from hostile import EVIL, make_hostile_run

from opbench.analyse.compare.runs import compare
from opbench.conformance.findings import Conformance, Request, Result
from opbench.conformance.promises.findings import CodeLine, PromiseRequest, PromiseResult, Promises
from opbench.schema import Settings


def timed_run(seed, carafe=3.0, peak=1 << 20):
    records = [
        make_record(
            make_case(name),
            latencies=(make_latency(ratio=ratio, seed=f"{name}/{seed}", processes=4, rounds=30),),
            memory=make_memory(peak_bytes=bytes_),
        )
        for name, ratio, bytes_ in (("nearest[torch]", 1.0, 1 << 20), ("carafe[cpu]", carafe, peak))
    ]
    return make_run(records)


def regressed():
    """Slower and larger, in one case of two."""
    return compare(timed_run(1), timed_run(2, carafe=3.6, peak=(1 << 20) + 4))


def unchanged():
    return compare(timed_run(1), timed_run(1))


def allowed():
    return compare(timed_run(1), timed_run(1, peak=(1 << 20) + 4), allow=("peak",))


def result(name, status="holds", dtype="float32", **further):
    return Result(name, f"what {name} states", dtype, status, **{"examples": 3, "seconds": 0.5, **further})


def convicted(**asked):
    results = (
        result("definition", "fails", message="output[0]: expected 1, got 2"),
        result("groups"),
        result("empty-batch", "fails", message="raises", tier="fragile"),
        result("memory-format", "silent"),
    )
    request = Request("ops/my_carafe.py:core", "carafe", **asked)
    return Conformance(request, "carafe (function)", results, (), "", (), 1.0)


def fragile(**asked):
    return msgspec.structs.replace(convicted(**asked), results=convicted().results[1:3])


def right():
    return msgspec.structs.replace(convicted(), results=convicted().results[1:2])


def refusing():
    return msgspec.structs.replace(convicted(), results=(), refused="RuntimeError: no such kernel")


def broken_module():
    kept = PromiseResult("repeats", "wrong", "The same input gives the same output.", "kept", seconds=0.1)
    broken = PromiseResult(
        "mixes-no-images", "wrong", "Images don't influence each other.", "broken", "mixes the images of a batch",
        (2, 8, 4, 4), CodeLine("ops/block.py", 12, "x = x.mean(0)"), "take the mean over the image's own axes",
    )  # fmt: skip
    left = PromiseResult("exports", "fragile", "It can be exported.", "not-run", "no onnx here")
    return Promises(PromiseRequest("ops/block.py:Block"), "Block(8)", ((2, 8, 4, 4),), (kept, broken, left), (), 2.0)


def evil_failures():
    case = msgspec.structs.replace(make_case("carafe[mine]"), workload=EVIL)
    settings = Settings(suite=EVIL, precision=0.01, budget_seconds=1.0, extensions=("../a,b:c%.py",))
    return make_run([make_failure(case, "incorrect", EVIL * 3 + "\ufffe\x00")], settings=settings, skipped=())


def evil_check():
    results = (result(EVIL, "fails", message=EVIL + "\ud800"), result("groups", "unsupported", message=EVIL))
    request = Request(f"{EVIL}/a b.py:{EVIL}", EVIL)
    return Conformance(request, EVIL, results, (), "", (EVIL,), 1.0)


GOOD = {"run": lambda: timed_run(1), "comparison": unchanged, "allowed": allowed, "check": right}
BAD = {
    "run": small_run,
    "crashed run": failed_run,
    "comparison": regressed,
    "check": convicted,
    "strict check": lambda: fragile(strict=True),
    "module": broken_module,
}
EVERY = {
    **{f"good {name}": made for name, made in GOOD.items()},
    **{f"bad {name}": made for name, made in BAD.items()},
    "fragile check": fragile,
    "refusing": refusing,
    "evil run": evil_run,
    "evil failures": evil_failures,
    "evil check": evil_check,
    "hostile run": make_hostile_run,
    "empty run": lambda: make_run([], panels=()),
}
