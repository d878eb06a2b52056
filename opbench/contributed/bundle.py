"""Bundles: a zip of a run document, its digest, its log and a manifest, written whole and read without unpacking.

A bundle may come from anybody. Its files are read into memory under the names that are known here, each within a limit
that is held while it is unpacked, whatever the zip says of its sizes; nothing is written and nothing in it is run.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

import opbench
from opbench import documents
from opbench.analyse.history.digest import digest, machine_key
from opbench.build import seed_text
from opbench.contributed.nouns import BundleManifest, Submission
from opbench.engine.log import NAME as LOG
from opbench.schema import OpbenchError, Run

T = TypeVar("T")

SUFFIX = ".bundle.zip"
MANIFEST, DOCUMENT, DIGEST = "bundle.json", "run.json", "digest.json"
MEMBERS = (MANIFEST, DOCUMENT, DIGEST, LOG)
_MAGIC = b"PK\x03\x04"
# A log has a line for every panel; a manifest one for each.
LARGEST_LOG = 64 << 20
# Of a document that a stranger sends: one of 20,000 records has 100 MB.
LARGEST_DOCUMENT = 256 << 20
# The same files give the same bytes: the earliest moment that a zip can name.
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack(document: Path, *, contributor: str = "", note: str = "") -> bytes:
    """The bundle of a run document, with the log beside it where there is one.

    Raises `OpbenchError` for what is no run document.
    """
    data = documents.contents(document, Run)
    run = _parsed(data, Run, str(document))
    folder = document if document.is_dir() else document.parent
    files = {DOCUMENT: data, DIGEST: documents.render(digest(run, data))}
    log = folder / LOG
    if log.is_file():
        files[LOG] = _log(documents.content(log), str(log)).encode()
    manifest = BundleManifest(
        members={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        machine=machine_key(run.environment),
        environment=run.environment,
        seeds={panel.id: seed_text(panel.cases[0]) for panel in run.panels if panel.cases},
        opbench=opbench.__version__,
        contributor=contributor,
        note=note,
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in {MANIFEST: documents.render(manifest), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def open_bundle(path: Path) -> Submission:
    """What is in a bundle, or in a run document and beside it. Raises `OpbenchError`, one sentence, for anything else.

    A bundle whose files are not those that its manifest names is damaged, and refused here.
    """
    try:
        data = b"" if path.is_dir() else documents.content(path)
    except FileNotFoundError:
        raise OpbenchError(f"{path}: no such file; expected a bundle (`opbench submit` writes one)") from None
    except OSError as error:
        raise OpbenchError(f"{path}: can't be read: {error.strerror or error}") from None
    if not data.startswith(_MAGIC):
        return _beside(path)
    try:
        return opened(data)
    except OpbenchError as error:
        raise OpbenchError(f"{path}: {error}") from None


def opened(data: bytes) -> Submission:
    """What the bytes of a bundle hold."""
    files = _files(data)
    for name in (MANIFEST, DOCUMENT):
        if name not in files:
            raise OpbenchError(f"not a bundle: it holds no {name}")
    manifest = _parsed(files.pop(MANIFEST), BundleManifest, MANIFEST)
    if set(files) != set(manifest.members):
        raise OpbenchError(
            f"holds {', '.join(sorted(files))}, where its manifest names {', '.join(sorted(manifest.members))}"
        )
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest.members[name]:
            raise OpbenchError(f"{name} is not the file that its manifest names: their SHA-256 differ")
    return Submission(
        document=files[DOCUMENT],
        run=_parsed(files[DOCUMENT], Run, DOCUMENT),
        digest=files.get(DIGEST),
        log=_log(files[LOG], LOG) if LOG in files else None,
        manifest=manifest,
    )


def _files(data: bytes) -> dict[str, bytes]:
    """The files of a zip by name; only known names, each once, each within its limit."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.filename not in MEMBERS:
                    raise OpbenchError(f"holds {entry.filename[:100]!r}, expected no more than {', '.join(MEMBERS)}")
                if entry.filename in found:
                    raise OpbenchError(f"holds {entry.filename} twice")
                if entry.flag_bits & 1:
                    raise OpbenchError(f"{entry.filename} is encrypted")
                limit = LARGEST_LOG if entry.filename == LOG else LARGEST_DOCUMENT
                with archive.open(entry) as file:
                    content = file.read(limit + 1)
                if len(content) > limit:
                    raise OpbenchError(f"{entry.filename} unpacks to more than {limit >> 20} MiB")
                found[entry.filename] = content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError) as error:
        raise OpbenchError(f"not a bundle that can be read: {error or type(error).__name__}") from None
    return found


def _parsed(data: bytes, wanted: type[T], name: str) -> T:
    try:
        return documents.parse(data, wanted)
    except OpbenchError as error:
        raise OpbenchError(f"{name}: {error}") from None


def _beside(path: Path) -> Submission:
    """A run document with the digest and the log that lie beside it."""
    from opbench.analyse.history.store import DIGEST_SUFFIX, RUN_SUFFIX

    data = documents.contents(path, Run)
    run = _parsed(data, Run, str(path))
    stem = path.name.removesuffix(documents.GZIP).removesuffix(RUN_SUFFIX)
    kept = path.name.removesuffix(documents.GZIP).endswith(RUN_SUFFIX)
    folder = path if path.is_dir() else path.parent
    figures = folder / f"{stem}{DIGEST_SUFFIX}"
    log = folder / (f"{stem}.{LOG}" if kept else LOG)
    return Submission(
        document=data,
        run=run,
        digest=documents.content(figures) if kept and figures.is_file() else None,
        log=_log(documents.content(log), str(log)) if log.is_file() else None,
    )


def _log(data: bytes, name: str) -> str:
    if len(data) > LARGEST_LOG:
        raise OpbenchError(f"{name}: more than the {LARGEST_LOG >> 20} MiB that a log may have")
    return data.decode("utf-8", "replace")
