"""Seeds of everything that is drawn, made from what it is drawn for."""

from __future__ import annotations

import hashlib


def seed_of(text: str, bits: int = 63) -> int:
    """A whole number below 2**bits, at most 64: the same for the same text, on any machine. Torch takes 63."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)
