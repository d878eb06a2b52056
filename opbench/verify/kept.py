"""Answers of the definition kept from a panel's first visit: a sample of positions, which later visits are judged by.

The definition takes longer to evaluate, with its error bounds, than a visit takes to time. Every contender is held
against all of it at the first visit; at later ones, which are fresh processes, its first call, its audits and its last
timed call are held against the positions kept, drawn anew for each run from the system's own randomness.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from msgspec.structs import replace as with_fields

from opbench.schema import Terms, Verdict
from opbench.verify.bounds import EPS, allowed, judge, unit
from opbench.verify.gate import Reference

POSITIONS = 1024


@dataclass(frozen=True)
class SampledReference(Reference):
    """`expected` and `terms` are those of the kept `positions` of each tensor, whose shapes are `full`."""

    positions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    full: Mapping[str, torch.Size] = field(default_factory=dict)

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """The shapes of the whole tensors."""
        return self.full

    def judge(self, got: Mapping[str, object]) -> Verdict:
        """The verdict by the positions kept; a tensor of another shape is none of them and is named as a whole."""
        sampled: dict[str, object] = {}
        for name, shape in self.full.items():
            value = got.get(name)
            if isinstance(value, torch.Tensor) and value.shape != shape:
                reason = f"{name}: expected shape {tuple(shape)}, got {tuple(value.shape)}"
                infinite = float("inf")
                return Verdict(False, infinite, None, infinite, infinite, 0, sampled=True, reason=reason)
            if isinstance(value, torch.Tensor):
                place = self.positions[name].to(value.device)
                value = value.detach().flatten()[place]
            sampled[name] = value
        verdict = judge(sampled, self.expected, self.terms, self.dtype, self.basis)
        return with_fields(verdict, sampled=True)


def sample(reference: Reference) -> SampledReference:
    """Random positions of every tensor of an answer, on the CPU."""
    generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "little"))
    expected, terms, positions = {}, {}, {}
    for name, whole in reference.expected.items():
        place = torch.randperm(whole.numel(), generator=generator)[:POSITIONS]
        there = place.to(whole.device)
        positions[name] = place
        expected[name] = whole.flatten()[there].cpu()
        # `total` so that one eps of it is what it was, whatever it was made of; the largest error permitted, as it was.
        total = (unit(reference.terms[name], reference.dtype) / EPS[reference.dtype]).expand_as(whole)
        bound = allowed(reference.terms[name], reference.dtype).expand_as(whole)
        terms[name] = Terms(total=total.flatten()[there].cpu(), count=1, bound=bound.flatten()[there].cpu())
    return SampledReference(expected, terms, reference.dtype, reference.basis, positions, dict(reference.shapes))


def keep(references: Mapping[str, Reference], path: Path) -> None:
    """Writes a sample of each answer that is here; where the disk doesn't take it, later visits evaluate it again."""
    held = {name: _plain(sample(reference)) for name, reference in references.items() if reference.expected}
    part = path.with_suffix(".part")
    with contextlib.suppress(OSError, RuntimeError):  # torch reports a full disk as a RuntimeError
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(held, part)
        os.replace(part, path)


def kept(path: Path) -> dict[str, Reference]:
    """The answers kept there; none where there is no such file, or none that can be read."""
    try:
        held = torch.load(path, weights_only=True)
        return {name: _reference(parts) for name, parts in held.items()}
    except Exception:  # torch raises what its archives and pickles do; without it the definition is evaluated again
        return {}


def _plain(sampled: SampledReference) -> dict[str, object]:
    """Tensors, numbers and text alone: what torch reads back without running any code."""
    return {
        "dtype": sampled.dtype,
        "basis": sampled.basis,
        "tensors": {
            name: {
                "shape": list(sampled.full[name]),
                "positions": sampled.positions[name],
                "expected": value,
                "total": sampled.terms[name].total,
                "bound": sampled.terms[name].bound,
            }
            for name, value in sampled.expected.items()
        },
    }


def _reference(parts: Mapping[str, object]) -> SampledReference:
    tensors = parts["tensors"]
    assert isinstance(tensors, dict)
    return SampledReference(
        expected={name: one["expected"] for name, one in tensors.items()},
        terms={name: Terms(total=one["total"], count=1, bound=one["bound"]) for name, one in tensors.items()},
        dtype=str(parts["dtype"]),
        basis=str(parts["basis"]),
        positions={name: one["positions"] for name, one in tensors.items()},
        full={name: torch.Size(one["shape"]) for name, one in tensors.items()},
    )
