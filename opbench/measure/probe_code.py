"""The probes as machine code: one function that does their work and times each by the clock of the thread that runs it.

Written as LLVM's text and compiled as written, without optimisation: an optimiser would find the sums' closed forms.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

# What a thread is given, as 64-bit numbers: a counter of the threads that have come, how many there are, rounds of the
# two loops, bytes to copy, where its places begin and how far apart they are, and where what it finds goes.
COME, THREADS, INTEGER_ROUNDS, VECTOR_ROUNDS, COPY_BYTES, PLACES, STRIDE, FOUND = range(8)
ARGUMENTS = 8
CHAINS = 8
# What a thread finds: nanoseconds of the three probes on its core, those of all three on the wall, and whether all
# threads had come when it began.
PROBES = 3
WALL, TOGETHER = range(PROBES, PROBES + 2)
FINDINGS = PROBES + 2
# How often a thread looks for the others before it begins without them: some milliseconds.
LOOKS = 100_000


def address(function: str = "probe") -> int:
    """Of `void probe(int64 *arguments)`, or of another function; ImportError or RuntimeError where none is compiled."""
    found: int = _engine().get_function_address(function)
    return found


@cache
def _engine() -> Any:
    """Machine code lives as long as its engine: this one to the end of the process."""
    from opbench.kernels.cpu import processor

    if not hasattr(time, "CLOCK_THREAD_CPUTIME_ID"):
        raise ImportError("this system has no clock of a thread's own")
    llvm, _, _ = processor.machine()
    name, features = processor.host()
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    machine = triple.create_target_machine(cpu=name, features=",".join(features), opt=1, jit=True)
    lanes = processor.target().vector_bytes // 4
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(probe_text(lanes, llvm.get_process_triple())), machine)
    engine.finalize_object()
    return engine


def probe_text(lanes: int, triple: str) -> str:
    """LLVM's text of the function, for vectors of `lanes` float32 numbers."""
    loads = [
        f"  %p{k} = getelementptr i64, ptr %a, i64 {k}\n  %v{k} = load i64, ptr %p{k}" for k in range(1, ARGUMENTS)
    ]
    found = [*(f"%d{k}" for k in range(PROBES)), "%wall", "%together"]
    return "\n".join(
        [
            "declare i32 @clock_gettime(i32, ptr)",
            "declare ptr @memcpy(ptr, ptr, i64)",
            _now(),
            _integers(),
            _vectors(lanes),
            _together(triple),
            "define void @probe(ptr %a) {",
            f"  %number = atomicrmw add ptr %a, i64 1 seq_cst\n{chr(10).join(loads)}",
            f"  %offset = mul i64 %number, %v{STRIDE}",
            f"  %at = add i64 %v{PLACES}, %offset",
            "  %source = inttoptr i64 %at to ptr",
            f"  %behind = add i64 %at, %v{COPY_BYTES}",
            "  %target = inttoptr i64 %behind to ptr",
            f"  %together = call i64 @together(ptr %a, i64 %v{THREADS})",
            f"  %begin = call i64 @now(i32 {time.CLOCK_MONOTONIC})",
            f"  %t0 = call i64 @now(i32 {time.CLOCK_THREAD_CPUTIME_ID})",
            f"  %sum = call i64 @integers(i64 %v{INTEGER_ROUNDS})",
            f"  %t1 = call i64 @now(i32 {time.CLOCK_THREAD_CPUTIME_ID})",
            f"  %copied = call ptr @memcpy(ptr %target, ptr %source, i64 %v{COPY_BYTES})",
            f"  %t2 = call i64 @now(i32 {time.CLOCK_THREAD_CPUTIME_ID})",
            f"  %product = call float @vectors(i64 %v{VECTOR_ROUNDS})",
            f"  %t3 = call i64 @now(i32 {time.CLOCK_THREAD_CPUTIME_ID})",
            f"  %end = call i64 @now(i32 {time.CLOCK_MONOTONIC})",
            "  store volatile i64 %sum, ptr %target\n  store volatile float %product, ptr %target",
            *(f"  %d{k} = sub i64 %t{k + 1}, %t{k}" for k in range(PROBES)),
            "  %wall = sub i64 %end, %begin",
            f"  %base = inttoptr i64 %v{FOUND} to ptr",
            f"  %own = mul i64 %number, {FINDINGS}",
            *(
                f"  %i{k} = add i64 %own, {k}\n  %o{k} = getelementptr i64, ptr %base, i64 %i{k}\n"
                f"  store i64 {value}, ptr %o{k}"
                for k, value in enumerate(found)
            ),
            "  ret void",
            "}",
        ]
    )


def _now() -> str:
    return """define i64 @now(i32 %clock) noinline {
  %time = alloca [2 x i64]
  %done = call i32 @clock_gettime(i32 %clock, ptr %time)
  %seconds = load i64, ptr %time
  %second = getelementptr i64, ptr %time, i64 1
  %nanoseconds = load i64, ptr %second
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %nanoseconds
  ret i64 %sum
}"""


def _together(triple: str) -> str:
    """Waits until the counter has reached `threads`: 1 once it has, 0 after `LOOKS` looks."""
    declared, waiting = "", ""
    if triple.startswith(("x86_64", "i686")):
        declared, waiting = "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    elif triple.startswith(("aarch64", "arm64")):
        declared, waiting = "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"
    return f"""{declared}
define i64 @together(ptr %counter, i64 %threads) noinline {{
entry:
  br label %look
look:
  %i = phi i64 [0, %entry], [%next, %again]
  %seen = load atomic i64, ptr %counter seq_cst, align 8
  %all = icmp uge i64 %seen, %threads
  br i1 %all, label %yes, label %again
again:
  {waiting}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {LOOKS}
  br i1 %more, label %look, label %no
yes:
  ret i64 1
no:
  ret i64 0
}}"""


def _integers() -> str:
    """`CHAINS` sums that don't wait for each other: as many instructions a cycle as a core can do."""
    steps = [f"  %x{k} = xor i64 %a{k}, %i\n  %b{k} = add i64 %x{k}, {2 * k + 3}" for k in range(CHAINS)]
    firsts = [f"{k + 1}" for k in range(CHAINS)]
    return _loop("i64", "integers", "i64", firsts, steps, "add i64", "ret i64 %s")


def _vectors(lanes: int) -> str:
    """`CHAINS` vectors, each multiplied and added to: what the vector units can do at the core's clock."""
    kind = f"<{lanes} x float>"

    def filled(value: str) -> str:
        return "<" + ", ".join([f"float {value}"] * lanes) + ">"

    steps = [
        f"  %x{k} = fmul {kind} %a{k}, {filled('0.5')}\n  %b{k} = fadd {kind} %x{k}, {filled('0.5')}"
        for k in range(CHAINS)
    ]
    end = f"%one = extractelement {kind} %s, i32 0\n  ret float %one"
    return _loop("float", "vectors", kind, [filled(f"{k + 1}.0") for k in range(CHAINS)], steps, f"fadd {kind}", end)


def _loop(result: str, name: str, kind: str, firsts: list[str], steps: list[str], add: str, end: str) -> str:
    """A function of `rounds` that steps all chains in each round, from %a to %b, and ends with the chains' sum."""
    chains = range(len(firsts))
    totals = ["%b0", *(f"%s{k}" for k in chains[1:-1]), "%s"]
    return "\n".join(
        [
            f"define {result} @{name}(i64 %rounds) noinline {{",
            "entry:\n  br label %loop",
            "loop:\n  %i = phi i64 [0, %entry], [%next, %loop]",
            *(f"  %a{k} = phi {kind} [{firsts[k]}, %entry], [%b{k}, %loop]" for k in chains),
            *steps,
            "  %next = add i64 %i, 1\n  %more = icmp ult i64 %next, %rounds\n  br i1 %more, label %loop, label %end",
            "end:",
            *(f"  {totals[k]} = {add} {totals[k - 1]}, %b{k}" for k in chains[1:]),
            f"  {end}",
            "}",
        ]
    )
