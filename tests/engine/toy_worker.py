"""A worker without torch, of one process: speaks as the real one does and starts in a tenth of the time.

A contender's implementation is what it does: `ok` takes a few milliseconds, `slow` a second; `hangs`, `exit`
and `garbles` misbehave.
Every record carries a number that no other has, so that a repeated or a doubled one shows.
"""

import os
import sys
import time

from factory import make_environment, make_latency, make_record
from msgspec.structs import replace

from opbench.child import apart
from opbench.documents import decode, encode
from opbench.engine.board import FIRST_CALL, IDLE, Board
from opbench.engine.messages import Assignment, Began, CalledFirst, CallFirst, Measured, Survey, Surveyed
from opbench.schema import FirstCall, Yardstick

WORK_SECONDS = 0.008


def main():
    with os.fdopen(os.dup(0), "rb") as orders, apart() as out:
        board = Board(int(sys.argv[1]))

        def send(message):
            out.write(encode(message) + b"\n")
            out.flush()

        for line in orders:
            assignment = decode(line, Assignment)
            send(Began(assignment.number, os.getpid()))
            if isinstance(assignment.work, Survey):
                samples = tuple(float(len(name)) for name in assignment.work.yardsticks)
                yardsticks = (Yardstick("copy", "cpu", "float32", "bytes/second", samples),) if samples else ()
                send(Surveyed(make_environment(), yardsticks, 0.0))
                continue
            if isinstance(assignment.work, CallFirst):
                stamp = FirstCall(assignment.work.case.id, (float(time.monotonic_ns()),), ())
                send(CalledFirst(stamp, 0.0))
                continue
            records = []
            for position, case in enumerate(assignment.work.panel.cases):
                board.write(position, FIRST_CALL)
                ACTS[case.implementation](out)
                latency = replace(make_latency(rounds=3), first_call_seconds=float(time.monotonic_ns()))
                records.append(make_record(case, latencies=(latency,), message=f"{os.getpid()}"))
            board.write(None, IDLE)
            send(Measured(tuple(records), 0.001 * len(records)))


def hang(out):
    time.sleep(1000)


def garble(out):
    out.write(b'{"type":"Measured","records":[{"case"\n\xff\n{}\n')
    out.flush()


ACTS = {
    "ok": lambda out: time.sleep(WORK_SECONDS),
    "also-ok": lambda out: time.sleep(WORK_SECONDS),
    "slow": lambda out: time.sleep(1.0),
    "hangs": hang,
    "exit": lambda out: os._exit(9),
    "garbles": garble,
}

if __name__ == "__main__":
    main()
