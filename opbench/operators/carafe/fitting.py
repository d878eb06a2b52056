"""At which dimensions CARAFE can run."""

from __future__ import annotations

from opbench.schema import Dims


def unfit(dims: Dims, kernels: tuple[str, ...]) -> str | None:
    """Why CARAFE can't run at these dimensions, or None."""
    small = [f"{name}={value}" for name, value in dims.items() if value < 1]
    if small:
        return f"dimensions must be at least 1, got {', '.join(small)}"
    even = [f"{name}={dims[name]}" for name in kernels if dims[name] % 2 == 0]
    if even:
        return f"kernels are centred on a pixel and must be odd, got {', '.join(even)}"
    if dims["C"] % dims.get("g", 1):
        return f"C={dims['C']} is not divisible by g={dims['g']}"
    return None
