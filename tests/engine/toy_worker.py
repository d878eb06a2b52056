"""A worker without torch, of one process: speaks as the real one does and starts in a tenth of the time.

A contender's implementation is what it does: `ok` takes a few milliseconds, `slow` a second; `hangs`, `exit`,
`garbles`, `crashes`, `floods`, `fills-memory` and `kills-the-run` misbehave.
Every record carries a number that no other has, so that a repeated or a doubled one shows.
"""

import os
import signal
import sys
import time

from factory import make_environment, make_latency, make_record
from msgspec.structs import replace

from opbench.engine.messages import Assignment, Began, CalledFirst, CallFirst, PanelMeasured, Survey, Surveyed
from opbench.engine.steps import CaseStep
from opbench.process.channel import channel
from opbench.process.heartbeat import Heartbeat
from opbench.schema import FirstCall, Yardstick

WORK_SECONDS = 0.008
ROUNDS = 3


def main():
    with channel() as wire:
        heartbeat = Heartbeat(int(sys.argv[1]))
        while (assignment := wire.receive(Assignment)) is not None:
            wire.send(Began(assignment.number, os.getpid()))
            if isinstance(assignment.work, Survey):
                samples = tuple(float(len(name)) for name in assignment.work.yardsticks)
                yardsticks = (Yardstick("copy", "cpu", "float32", "bytes/second", samples),) if samples else ()
                wire.send(Surveyed(make_environment(), yardsticks, 0.0, number=assignment.number))
                continue
            if isinstance(assignment.work, CallFirst):
                stamp = FirstCall(assignment.work.case.id, (float(time.monotonic_ns()),), ())
                wire.send(CalledFirst(stamp, 0.0, number=assignment.number))
                continue
            records = []
            for position, case in enumerate(assignment.work.panel.cases):
                heartbeat.beat(position, CaseStep.FIRST_CALL)
                ACTS[case.implementation](wire._answers)
                for _ in range(ROUNDS):
                    heartbeat.beat(position, CaseStep.TIME)
                latency = replace(make_latency(rounds=ROUNDS), first_call_seconds=float(time.monotonic_ns()))
                records.append(make_record(case, latencies=(latency,), message=f"{os.getpid()}"))
            heartbeat.beat(None, CaseStep.IDLE)
            wire.send(PanelMeasured(tuple(records), 0.001 * len(records), number=assignment.number))


def hang(out):
    time.sleep(1000)


def flood(out):
    while True:
        out.write(b"noise" * 10_000)


def fill_memory(out):
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)))


def garble(out):
    out.write(b'{"type":"PanelMeasured","records":[{"case"\n\xff\n{}\n')
    out.flush()


ACTS = {
    "ok": lambda out: time.sleep(WORK_SECONDS),
    "also-ok": lambda out: time.sleep(WORK_SECONDS),
    "slow": lambda out: time.sleep(1.0),
    "hangs": hang,
    "exit": lambda out: os._exit(9),
    "garbles": garble,
    "kills-the-run": lambda out: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(1000),
    "crashes": lambda out: os.abort(),
    "floods": flood,
    "fills-memory": fill_memory,
}

if __name__ == "__main__":
    main()
