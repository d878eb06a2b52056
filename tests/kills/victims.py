"""Commands that are killed: what is there before, which command, and what is there once it has ended."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from factory import example_records, make_environment, make_run
from msgspec.structs import replace

from opbench.documents import save
from opbench.plural import counted

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
import toy_study

HERE = Path(__file__).parent
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
SECONDS = 120


class Victim(NamedTuple):
    """A command by the words that bring about what it finds, and its own; both write into the folder `out` alone."""

    before: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


VICTIMS = {
    "keep": Victim(
        (("keep", "in/1.json", "in/2.json", "in/3.json", "--in", "out"),),
        ("keep", "in/4.json", "in/5.json", "--in", "out", "--raw", "2"),
    ),
    "dashboard": Victim((("dashboard", "in/older", "-o", "out"),), ("dashboard", "in", "-o", "out")),
    "export of one file": Victim(
        (("export", "in/1.json", "--format", "csv", "-o", "out/runs.csv"),),
        ("export", "in/1.json", "in/2.json", "--format", "csv", "-o", "out/runs.csv"),
    ),
    "export of several": Victim(
        (("export", "in/1.json", "--format", "asv", "-o", "out"),),
        ("export", "in/1.json", "in/2.json", "--format", "asv", "-o", "out"),
    ),
    "report of a study": Victim(
        (("study", "--from", "in/older/study.json", "-o", "out"),), ("study", "--from", "in/study.json", "-o", "out")
    ),
}


def write_documents(folder):
    """What the commands read: five runs, the first of them also in a folder of its own, and two studies."""
    for number in range(1, 6):
        environment = make_environment(commit=f"{number:x}" * 40)
        run = make_run(example_records()[:4], started=f"2026-01-0{number}", environment=environment)
        save(run, folder / f"{number}.json")
    shutil.copytree(folder, folder / "older", ignore=lambda *_: ["2.json", "3.json", "4.json", "5.json"])
    study = toy_study.make_study()
    save(study, folder / "study.json")
    last = study.studies[0].trainings[-1]
    trainings = (*study.studies[0].trainings[:-1], replace(last, losses=last.losses[::-1]))
    save(replace(study, studies=(replace(study.studies[0], trainings=trainings),)), folder / "older" / "study.json")


class Forks:
    """The process that forks commands, whose current folder is `folder`; their files are in `folder`/out."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        places = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "command_forks.py"), str(self.out)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def close(self):
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.process.stdout.close()

    def command(self, words, *, step=0, kill_after=None):
        """The exit code of the command, which dies at a step or is killed after so many seconds."""
        self.process.stdin.write(json.dumps([list(words), step, kill_after]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def succeeds(self, words):
        """Has the command run to its end; the seconds that it took."""
        began = time.monotonic()
        code = self.command(words)
        assert code == 0, f"{' '.join(words)}: {code}\n{self.said()}"
        return time.monotonic() - began

    def said(self):
        """What the last command has printed."""
        return (self.folder / "said").read_text()

    def content(self):
        """Every file of `out` but for temporary ones, by its path there."""
        found = [path for path in self.out.rglob("*") if path.is_file() and not TEMPORARY.fullmatch(path.name)]
        return {str(path.relative_to(self.out)): path.read_bytes() for path in found}

    def temporaries(self):
        return [path for path in self.out.rglob("*") if TEMPORARY.fullmatch(path.name)]


class Scene:
    """A command, and what is in its folder before and after it."""

    def __init__(self, name, forks):
        self.words, self.forks = VICTIMS[name].words, forks
        self._before = forks.folder / "before"
        shutil.rmtree(forks.out, ignore_errors=True)
        shutil.rmtree(self._before, ignore_errors=True)
        for words in VICTIMS[name].before:
            forks.succeeds(words)
        shutil.copytree(forks.out, self._before)
        self.before = forks.content()
        self.seconds = forks.succeeds(self.words)
        self.after = forks.content()
        assert self.before != self.after
        self.begin_anew()

    def begin_anew(self):
        shutil.rmtree(self.forks.out)
        shutil.copytree(self._before, self.forks.out)

    def check(self, said):
        """Every file is the whole old or the whole new one, none is lost, a folder has one temporary file at most."""
        now = self.forks.content()
        for name in now.keys() | self.before.keys() | self.after.keys():
            allowed = [of.get(name) for of in (self.before, self.after)]
            assert now.get(name) in allowed, f"{said}: {name} is neither the old nor the new one"
        left = self.forks.temporaries()
        folders = {path.parent for path in left}
        assert len(left) == len(folders), f"{said}: {counted(len(left), 'temporary file')} in {folders}"

    def check_the_end(self, said):
        """The command, repeated, does what it would have done."""
        self.forks.succeeds(self.words)
        assert self.forks.content() == self.after, said
        assert not self.forks.temporaries(), said
