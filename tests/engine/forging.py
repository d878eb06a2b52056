"""A contender that knows opbench's objects: it writes the panel's result for everybody, and sends it."""

import sys
import time

import torch

from opbench.engine.messages import PanelMeasured
from opbench.engine.worker import Worker
from opbench.operators.carafe.cores import shift_add
from opbench.registry import register_implementation
from opbench.schema import Latency, Record, Verdict


def held_by_the_harness(*names):
    """What stands under one of these names in a frame of whoever called."""
    frame = sys._getframe(2)
    while frame is not None:
        for name in names:
            if name in frame.f_locals:
                yield frame.f_locals[name]
        frame = frame.f_back


def result_of(panel, wire, heartbeat, number):
    """A panel's result that nobody has measured: everybody is right, and one of them is fast."""
    right = Verdict(True, 0.5, None, 0.1, 0.1, 1, sampled=False)
    heartbeat.beat(None, 0)
    records = []
    for case in panel.cases:
        seconds = 1e-9 if "writes-the-result" in case.id else 1e-6
        latency = Latency("cpu-wall", 1, ((seconds, seconds),), 1e-9, "precision")
        records.append(Record(case, "ok", verdict=right, final_verdict=right, latencies=(latency,)))
        heartbeat.beat(None, 0)
        heartbeat.beat(None, 0)
    wire.send(PanelMeasured(tuple(records), 0.001, number=number))


@register_implementation("carafe_core", "carafe", "writes-the-result")
def writes_the_result(x, mask, **options):
    if not torch.jit.is_tracing():
        panel = next(held_by_the_harness("panel"))
        worker = next(one for one in held_by_the_harness("self") if isinstance(one, Worker))
        number = next(held_by_the_harness("following")).number
        result_of(panel, worker.wire, worker.heartbeat, number)
        time.sleep(1000)
    return shift_add(x, mask, **options)
