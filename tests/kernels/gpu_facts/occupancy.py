"""How many programs of a kernel a multiprocessor holds, by what NVIDIA publishes of each compute capability.

Source: CUDA C++ Programming Guide, table of technical specifications per compute capability, and the occupancy
calculator's allocation units: registers by 256 a warp, warps by four, shared memory by 128 bytes with 1 KiB of each
program kept by the system.
"""

from dataclasses import dataclass

REGISTERS = 65536
_REGISTER_UNIT, _SHARED_UNIT, _SYSTEM_SHARED = 256, 128, 1024


@dataclass(frozen=True)
class Multiprocessor:
    """Warps, programs and bytes of shared memory of one."""

    warps: int
    programs: int
    shared: int


MULTIPROCESSORS = {
    80: Multiprocessor(64, 32, 164 << 10),
    90: Multiprocessor(64, 32, 228 << 10),
    100: Multiprocessor(64, 32, 228 << 10),
}


def programs_at_once(capability, *, registers, shared, warps):
    """Programs that one multiprocessor holds, and what keeps it from more."""
    one = MULTIPROCESSORS[capability]
    of_a_warp = -(-registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    of_a_program = -(-shared // _SHARED_UNIT) * _SHARED_UNIT + _SYSTEM_SHARED
    # A quarter of the warps, and of the registers, belongs to each of four schedulers.
    by = {
        "registers": REGISTERS // 4 // of_a_warp * 4 // warps,
        "shared memory": one.shared // of_a_program,
        "warps": one.warps // warps,
        "programs": one.programs,
    }
    limit = min(by, key=lambda name: by[name])
    return by[limit], limit


def occupancy(capability, *, registers, shared, warps):
    """Share of a multiprocessor's warps that are held at once."""
    programs, _ = programs_at_once(capability, registers=registers, shared=shared, warps=warps)
    return programs * warps / MULTIPROCESSORS[capability].warps
