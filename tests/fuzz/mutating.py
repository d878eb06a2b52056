"""Documents of every kind, changed by chance: `mutated(seed)` is the same bytes on every machine."""

import copy
import gzip
import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

from factory import example_records, make_run, make_selfcheck
from hostile import EVIL, make_hostile_run
from test_documents import nouns

from opbench import documents
from opbench.analyse.history.digest import digest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
sys.path.insert(0, str(Path(__file__).parents[1] / "report" / "exports"))
import judging_examples
import toy_study

# How often a kind is drawn beside those that are drawn once: what many commands read, and what is read back from disk.
WEIGHTS = {"run": 6, "digest": 3, "selfcheck": 2, "study": 2, "comparison": 2, "conformance": 2, "promises": 2}

# What a field may hold instead: at the edges of numbers, of names and of types.
VALUES = (
    0, -1, 1, 2, 10**80, -(10**80), 2**63, 2**63 - 1, 10**400, 1e308, -1e308, 1e-320, 0.0, -0.0, 1.5, "NaN", "Infinity",
    "-Infinity", "1", "", " ", "\u0000", "../../../escaped", "/etc/passwd", "x" * 5000, "{0}", "%s%n", "=1+1;=2", EVIL,
    "\u202e", "__proto__", "constructor", "--help", "-", ".", "..", "CON", "a\nb", "2026-13-45", "9999-12-31T23:59:59Z",
    "0001-01-01", True, False, None, [], {}, [[]], {"a": {}}, ["a"], [None], [0], [[0]],
)  # fmt: skip


class Mutated(NamedTuple):
    """One changed document: its kind, what stands in the file, and what was done to it."""

    kind: str
    content: bytes
    done: tuple[str, ...]


def originals():
    """One document of each kind, as JSON values; of runs two. What a kind holds at most stands in it."""
    run = make_run(example_records()[:6])
    data = documents.render(run)
    full = {
        "run": [run, make_hostile_run()],
        "digest": [digest(run, data)],
        "selfcheck": [make_selfcheck(make_selfcheck().trials[:6])],
        "study": [toy_study.make_study()],
        "comparison": [judging_examples.regressed()],
        "conformance": [judging_examples.convicted()],
        "promises": [judging_examples.broken_module()],
    }
    every = {kind: [noun] for kind, noun in nouns().items()} | full
    return {kind: [json.loads(documents.render(noun)) for noun in held] for kind, held in every.items()}


def mutated(seed, every):
    """A document of the `originals` with one to four changes."""
    draw = random.Random(seed)
    kinds = sorted(every)
    (kind,) = draw.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds])
    raw = copy.deepcopy(draw.choice(every[kind]))
    done = tuple(_change(raw, draw) for _ in range(draw.choice((1, 1, 1, 2, 4))))
    content = json.dumps(raw).encode()
    if draw.random() < 0.2:
        how = draw.choice(_BYTES)
        content, done = how(content, draw), (*done, how.__name__)
    return Mutated(kind, content, done)


def _change(raw, draw):
    """Changes one place of a JSON value, wherever it is; says what was done."""
    held, key, path = _place(raw, draw)
    what = draw.choice(("value", "value", "value", "near", "near", "gone", "twice", "swapped"))
    number = held[key]
    # An integer that an earlier change put there may be beyond every float.
    if what == "near" and type(number) in (int, float) and abs(number) < 1e300:
        held[key] = draw.choice((number * 2, number * -1, number * 1e6, number / 1e6, number + 1))
    elif what == "gone":
        del held[key]
    elif what == "twice" and isinstance(held, list):
        held.insert(key, copy.deepcopy(held[key]))
    elif what == "swapped":
        other, there, _ = _place(raw, draw)
        if key in _keys(held):  # a place may lie within the other
            held[key], other[there] = copy.deepcopy(other[there]), copy.deepcopy(held[key])
    else:
        held[key] = draw.choice(VALUES)
    return f"{what} at {path}"


def _place(raw, draw):
    """A container in a JSON value, a key of it, and the path there; as likely at the top as deep inside."""
    held, path = raw, "$"
    while True:
        key = draw.choice(_keys(held))
        path += f"[{key!r}]"
        inside = held[key]
        if not isinstance(inside, dict | list) or not inside or draw.random() < 0.15:
            return held, key, path
        held = inside


def _keys(held):
    return list(held) if isinstance(held, dict) else range(len(held))


def cut_short(content, draw):
    return content[: draw.randrange(len(content))]


def another_byte(content, draw):
    at = draw.randrange(len(content))
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def gzipped(content, draw):
    return gzip.compress(content, mtime=0)


def gzipped_and_cut(content, draw):
    return cut_short(gzip.compress(content, mtime=0), draw)


def marked(content, draw):
    return b"\xef\xbb\xbf" + content


def as_utf_16(content, draw):
    return content.decode().encode("utf-16")


def with_a_key_twice(content, draw):
    return b'{"schema_version": 1, ' + content[1:]


def deep(content, draw):
    return b'{"new": ' + b"[" * 50_000 + b"]" * 50_000 + b", " + content[1:]


_BYTES = (cut_short, another_byte, gzipped, gzipped_and_cut, marked, as_utf_16, with_a_key_twice, deep)
