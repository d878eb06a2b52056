"""Whether a journal is of the run that wants to resume it: what is measured, with what settings, where."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

from opbench.engine.entries import Header
from opbench.schema import Environment, OpbenchError, shares_differ

# What times depend on, beside the share of the machine and the versions of what is installed.
COMPARED = ("machine", "cpu", "cores", "threads", "gpu", "python", "platform", "commit")


def differences(before: Environment, now: Environment) -> list[str]:
    """In what two environments differ that makes their times no part of one run."""
    found = []
    for name in COMPARED:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            found.append(f"{name}: {old} there, {new} here")
    found += [f"{what} here" for what in shares_differ(before.share, now.share)]
    return found + other_versions(before.versions, now.versions)


def other_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The packages whose versions differ, by name."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name, "none"), now.get(name, "none")
        if old != new:
            found.append(f"{name} {old} there, {new} here")
    return found


def refuse(path: Path, reasons: list[str]) -> None:
    """Raises OpbenchError if there is a reason why the journal is not of this run."""
    if reasons:
        raise OpbenchError(
            f"--resume: {path} is of another run: {'; '.join(reasons)}; repeat its command, or choose another folder"
        )


def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    """A short digest of each content, by name."""
    return {name: f"{zlib.crc32(content):08x}" for name, content in contents.items()}


def refuse_other_header(path: Path, before: Header, now: Header) -> None:
    """Refuses a journal of another suite, other settings, other panels or other extensions."""
    reasons = []
    if before.version != now.version:
        reasons.append(f"format {before.version} there, {now.version} here")
    for name in now.settings.__struct_fields__:
        old, new = getattr(before.settings, name), getattr(now.settings, name)
        if old != new:
            reasons.append(f"{name} {_shown(old)} there, {_shown(new)} here")
    if before.threads != now.threads:
        reasons.append(f"--threads {before.threads} there, {now.threads} here")
    for what, olds, news in (("panel", before.panels, now.panels), ("file", before.extensions, now.extensions)):
        changed = [name for name in {**olds, **news} if olds.get(name) != news.get(name)]
        if changed and not any(reason.startswith("suite ") for reason in reasons):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            reasons.append(f"{what} {changed[0]}{more} is not what it was when the run began")
    refuse(path, reasons)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
