"""No document ends a command in a traceback, a hang, or a file outside of its output: 100 of them, 2,000 in a night."""

import itertools
import os
import signal

import pytest
from factory import example_records, make_run
from mutating import mutated, originals
from typer.testing import CliRunner

from opbench import documents, main
from opbench.documents import KINDS
from opbench.report.exports import FORMATS

# A document of a test takes milliseconds; a chart of many panels a second or two beside other processes.
SECONDS = 60

DOCUMENTS = 100
NIGHTLY = 2_000
BATCH = 20


def reading_a_run(file, good, out):
    """Every command that reads a run document, by name."""
    folder, case = file.parent, "carafe"
    return {
        "report": ["report", file, "-o", out / "report"],
        "reports": ["report", file, good, "-o", out / "reports"],
        "compare": ["compare", good, file],
        "compare back": ["compare", file, good, "--markdown", out / "table.md"],
        "keep": ["keep", file, good, "--in", out / "kept", "--raw", "0"],
        "dashboard": ["dashboard", folder, "-o", out / "site"],
        "history": ["history", case, folder],
        "claims": ["claims", file],
        "readme": ["readme", out / "README.md"],
        **exporting(file, out, FORMATS),
    }


def exporting(file, out, formats):
    return {
        f"export {name}": ["export", file, "--format", name, "-o", out / name.replace("-", "_")] for name in formats
    }


def reading_a_digest(file, good, out):
    return {
        "history": ["history", "carafe", file.parent],
        "dashboard": ["dashboard", file.parent, "-o", out / "site"],
        "keep": ["keep", good, "--in", file.parent, "--raw", "0"],
    }


def reading_a_selfcheck(file, good, out):
    return {
        "compare": ["compare", good, good, "--selfcheck", file],
        "readme": ["readme", out / "README.md"],
        "dashboard": ["dashboard", file.parent, "-o", out / "site"],
    }


def reading_a_study(file, good, out):
    return {
        "study": ["study", "--from", file, "-o", out / "study"],
        "dashboard": ["dashboard", file.parent, "-o", out / "site"],
    }


def reading_what_is_printed(file, good, out):
    """What `--json` printed, and a command takes up again: verdicts."""
    return {
        **exporting(file, out, (name for name, format_ in FORMATS.items() if format_.verdicts)),
        **refusing(file, good, out),
    }


def reading_a_device(file, good, out):
    return {"report": ["report", file, "-o", out / "report"], **refusing(file, good, out)}


def refusing(file, good, out):
    """Commands that meet a document of another kind than theirs."""
    return {
        "report among runs": ["report", good, file, "-o", out / "reports"],
        "compare": ["compare", good, file],
        "export of figures": ["export", file, "--format", "csv", "-o", out / "csv"],
        "dashboard": ["dashboard", file.parent, "-o", out / "site"],
        "history": ["history", "carafe", file.parent],
    }


COMMANDS = {
    "run": (reading_a_run, "run.json"),
    "digest": (reading_a_digest, "one.digest.json"),
    "selfcheck": (reading_a_selfcheck, "selfcheck.json"),
    "study": (reading_a_study, "study.json"),
    **dict.fromkeys(("comparison", "conformance", "promises"), (reading_what_is_printed, "printed.json")),
    "device": (reading_a_device, "device.json"),
}
# Of a kind that no command takes up again: those that meet one in a folder, or by mistake.
OTHERS = (refusing, "document.json")


@pytest.fixture(scope="module")
def every():
    return originals()


class HangError(BaseException):
    """A command that did not come back."""


def within(seconds, act):
    """What `act` gives; raises after that many seconds."""

    def late(number, frame):
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return act()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def files(folder, without):
    """Every path below a folder with its content, but for those below another."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if without not in (path, *path.parents):
            found[path] = path.read_bytes() if path.is_file() else None
    return found


def tried(seed, every, home, most=None):
    """Runs a mutated document through the commands that read its kind: `most` of them in turn by its seed, or all."""
    one = mutated(seed, every)
    reading, name = COMMANDS.get(one.kind, OTHERS)
    folder, out = home / "deep" / "in", home / "deep" / "out"
    folder.mkdir(parents=True)
    out.mkdir()
    file, good = folder / name, home / "deep" / "good.json"
    file.write_bytes(one.content)
    documents.save(make_run(example_records()[:6]), good)
    (out / "README.md").write_text(f"<!-- opbench:../in/{name} -->\n<!-- /opbench:../in/{name} -->\n")
    commands = reading(file, good, out)
    first = seed % len(commands)
    chosen = list(itertools.islice(itertools.cycle(commands), first, first + (most or len(commands))))
    for title in dict.fromkeys(chosen):
        # A history may be kept in the folder itself; elsewhere nothing is touched.
        without = folder if (one.kind, title) == ("digest", "keep") else out
        before = files(home, without)
        said = f"seed {seed}, {title}: {one.kind}, {', '.join(one.done)}"
        result = within(SECONDS, lambda title=title: CliRunner().invoke(main.app, [str(w) for w in commands[title]]))
        shown = result.output
        assert result.exit_code in (0, 1, 2), f"{said}\n{shown}"
        assert result.exception is None or isinstance(result.exception, SystemExit), f"{said}\n{shown}"
        assert "Traceback" not in shown, f"{said}\n{shown}"
        assert files(home, without) == before, said
        assert not list(home.rglob("*.tmp")), said
        assert not [character for character in shown if character in "\x1b\x07\x9b\u202e"], f"{said}\n{shown!r}"


@pytest.mark.parametrize("batch", range(DOCUMENTS // BATCH))
def test_a_changed_document_ends_in_a_sentence(batch, every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        tried(seed, every, tmp_path / str(seed), most=1)


@pytest.mark.nightly
@pytest.mark.parametrize("batch", range(NIGHTLY // BATCH))
def test_many_more_do_too(batch, every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        tried(1_000_000 + seed, every, tmp_path / str(seed))


def test_every_kind_is_among_them(every):
    assert {mutated(seed, every).kind for seed in range(DOCUMENTS)} == set(KINDS)


def test_the_same_seed_is_the_same_document(every):
    again = originals()
    assert [mutated(seed, every) for seed in range(20)] == [mutated(seed, again) for seed in range(20)]


def test_a_command_that_does_not_come_back_is_found():
    with pytest.raises(HangError):
        within(0.05, lambda: [os.getpid() for _ in itertools.count()])
