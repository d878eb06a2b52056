"""A command that is killed loses nothing: files are whole, old or new, and the command succeeds when it is repeated."""

import random
import shutil
import signal
import subprocess
import sys

import pytest
from factory import make_environment, make_run
from victims import VICTIMS, Forks, Scene, write_documents

from opbench import documents
from opbench.analyse.history import store
from opbench.study.document import NAME, PART, StudyDocument

KILLS = 100
# By day a command dies at its first three steps and one drawn from a seed; in a night at each.
QUICK = ("keep", "export of several")
STUDY = ("study", "upsample", "--quick", "--seeds", "2", "--images", "generated", "--processes", "1", "-o", "out")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_documents(folder / "in")
    made = Forks(folder)
    yield made
    made.close()


def dies(scene, step):
    """Whether the command dies before that step, which it doesn't where it has fewer; what it leaves is whole."""
    code = scene.forks.command(scene.words, step=step)
    assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ), scene.forks.said()
    scene.check(f"step {step}")
    return code != 0


@pytest.mark.parametrize("name", QUICK)
def test_a_command_that_dies_at_some_step_leaves_whole_files(name, forks):
    scene, draw = Scene(name, forks), random.Random(name)
    for step in (1, 2, 3):  # its folder, the first file, the midst of that
        assert dies(scene, step)
    dies(scene, draw.randrange(4, 12))
    scene.check_the_end(name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", VICTIMS)
def test_a_command_that_dies_at_any_step_leaves_whole_files(name, forks):
    scene, step = Scene(name, forks), 1
    while dies(scene, step):
        dies(scene, step)  # what it finds now is what the killed one has left
        scene.check_the_end(f"step {step}")
        scene.begin_anew()
        step += 1
    assert step > 3, "nothing was written: this has shown nothing"


@pytest.mark.nightly
@pytest.mark.parametrize("name", VICTIMS)
def test_a_hundred_kills_at_random_lose_nothing(name, forks):
    scene, draw, kills = Scene(name, forks), random.Random(name), 0
    while kills < KILLS:
        for _ in range(draw.randrange(1, 6)):
            code = forks.command(scene.words, kill_after=draw.uniform(0, 1.1 * scene.seconds))
            assert code in (0, -signal.SIGKILL), forks.said()
            scene.check(f"kill {kills}")
            kills += code != 0
        scene.check_the_end(f"after kill {kills}")
        scene.begin_anew()


def trained(folder):
    """Every training that a folder's document has, finished or not, with its losses."""
    path = next((folder / name for name in (PART, NAME) if (folder / name).exists()), None)
    studies = documents.read(path, StudyDocument).studies if path else ()
    return {(one.contender, one.purpose, one.rate, one.seed, one.losses) for of in studies for one in of.trainings}


@pytest.mark.nightly
def test_a_hundred_kills_of_a_study_lose_no_training(forks):
    shutil.rmtree(forks.out, ignore_errors=True)
    seconds = forks.succeeds(STUDY)
    names, expected = set(forks.content()), trained(forks.out)
    draw, kills, partly = random.Random(20), 0, 0
    while kills < KILLS:
        shutil.rmtree(forks.out)
        seen, code = set(), None
        while code != 0:
            code = forks.command((*STUDY, "--resume"), kill_after=draw.uniform(0, seconds))
            assert code in (0, -signal.SIGKILL), forks.said()
            now = trained(forks.out)
            assert seen <= now, "a finished training was lost"
            assert len(forks.temporaries()) <= 1
            partly += 0 < len(now) < len(expected)
            kills += code != 0
            seen = now
        assert trained(forks.out) == expected
        assert set(forks.content()) == names
        assert not forks.temporaries()
    assert partly, "no kill fell into the middle of the work: this has shown nothing"


@pytest.mark.nightly
def test_twenty_commands_that_keep_at_once_lose_nothing(tmp_path):
    for number in range(20):
        run = make_run(started=f"2026-01-{number + 1:02}", environment=make_environment(commit=f"{number:040x}"))
        documents.save(run, tmp_path / f"{number}.json")
    commands = [
        [sys.executable, "-m", "opbench", "keep", f"{one}.json", f"{(one + 1) % 20}.json", "--in", "kept", "--raw", "5"]
        for one in range(20)
    ]
    started = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for command in commands]
    ended = [(one.communicate(timeout=600)[1], one.returncode) for one in started]
    assert [code for _, code in ended] == [0] * 20, ended
    found = store.read(tmp_path / "kept")
    assert not found.problems
    assert {one.started for one in found.digests} == {f"2026-01-{number + 1:02}" for number in range(20)}
    assert {f"2026-01-{number}" for number in range(16, 21)} <= {one.run.started for one in found.runs}
    assert not list((tmp_path / "kept").rglob("*.tmp"))
