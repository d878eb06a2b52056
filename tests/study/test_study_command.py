"""`opbench study`: the document, the report, and what is refused."""

import json
import re
from pathlib import Path

import in_process
import msgspec
import pytest
from dying import DEATHS, MEMORY_BYTES

from opbench.commands.study import StudyRequest
from opbench.commands.study import study as study_command
from opbench.documents import read, save
from opbench.documents.kinds import STUDY_VERSION
from opbench.report.study import write_study
from opbench.report.study_charts import charts
from opbench.schema import OpbenchError
from opbench.study import run
from opbench.study.document import NAME, PART, StudyDocument
from opbench.study.run import Extent, TrainingLostError, best_rate, run_study
from opbench.study.studies import STUDIES, study_named


def quick(folder, **changed):
    settings = {"seeds": 2, "images": "generated", "processes": 1, "quick": True}
    return study_command(StudyRequest(output=folder, **{**settings, **changed}))


@pytest.fixture(scope="module")
def names(thorough):
    """One study; at night every study. That each contender trains, test_training.py says."""
    return tuple(STUDIES) if thorough else ("upsample",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, names):
    """The finished studies, two steps each training."""
    folder = tmp_path_factory.mktemp("study")
    assert quick(folder, studies=names) == 0
    return folder


@pytest.fixture(scope="module")
def study(folder):
    return read(folder / NAME, StudyDocument)


def test_a_document_reads_back_as_it_was_written(study, tmp_path):
    save(study, tmp_path / NAME)
    assert read(tmp_path / NAME, StudyDocument) == study


def test_every_contender_has_its_trainings_scores_losses_and_steps(study):
    assert study.complete
    assert study.schema_version == STUDY_VERSION
    for result in study.studies:
        declared = study_named(result.name)
        assert [contender.name for contender in result.contenders] == [entrant.name for entrant in declared.entrants]
        assert len(result.trainings) == result.planned
        for contender in result.contenders:
            assert [training.seed for training in result.of(contender.name, "scored")] == [0, 1]
            assert {training.rate for training in result.of(contender.name, "scored")} == {contender.rate}
            assert [training.rate for training in result.of(contender.name, "search")] == list(result.rates)
            assert len(contender.step_seconds) == 3
        for training in result.trainings:
            assert len(training.losses) == result.steps
            assert set(training.scores) == {metric.name for metric in result.metrics}


def test_the_search_is_scored_on_other_images_and_another_seed_than_what_counts(study):
    for result in study.studies:
        assert result.search_seed not in result.seeds
        data = STUDIES[result.name].data("generated", True)
        assert not any(
            (one.shape == other.shape and (one == other).all())
            for one in data.validation[0]
            for other in data.held_out[0]
        )


def test_the_same_study_again_has_the_same_losses(study, tmp_path):
    extent = Extent(("upsample",), seeds=2, images="generated", processes=1, quick=True)
    again = run_study(extent, "again", tmp_path, lambda done, total, what: None)
    assert again.studies[0].trainings == study.studies[0].trainings


def test_the_report_is_the_documents_alone(study, folder, tmp_path):
    write_study(read(folder / NAME, StudyDocument), tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"study.md", *charts(study)}
    assert all((folder / name).read_bytes() == content for name, content in written.items())


def stopping_after(count, monkeypatch, trained):
    """Ctrl-C comes after so many trainings, which are added to `trained`."""
    from opbench.study.training import train

    def impatient(job):
        if len(trained) == count:
            raise KeyboardInterrupt
        trained.append(train(job))
        return trained[-1]

    monkeypatch.setattr("opbench.study.run.train", impatient)


def test_ctrl_c_keeps_what_was_trained_and_leaves_a_finished_study_alone(folder, tmp_path, monkeypatch, capsys):
    finished = (folder / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(finished)
    trained = []
    stopping_after(3, monkeypatch, trained)
    assert quick(tmp_path) == 130
    assert (tmp_path / NAME).read_bytes() == finished
    assert read(tmp_path / PART, StudyDocument).studies[0].trainings == tuple(trained)
    assert PART in capsys.readouterr().out


def test_resuming_trains_what_is_missing_and_nothing_twice(study, tmp_path, monkeypatch, capsys):
    before, after, count = [], [], 9  # some of the search is left, or some of what is scored
    stopping_after(count, monkeypatch, before)
    assert quick(tmp_path, studies=("upsample",)) == 130
    assert f"-o {tmp_path} --resume" in capsys.readouterr().out.splitlines()[-1]
    stopping_after(None, monkeypatch, after)
    assert quick(tmp_path, studies=("upsample",), resume=True) == 0
    assert len(before) == count
    assert len(before) + len(after) == study.studies[0].planned
    found = read(tmp_path / NAME, StudyDocument)
    assert found.complete
    assert found.studies[0].trainings == next(one for one in study.studies if one.name == "upsample").trainings
    assert not (tmp_path / PART).exists()


def test_a_finished_study_that_is_resumed_has_its_report_written_and_trains_nothing(
    folder, names, tmp_path, monkeypatch
):
    (tmp_path / NAME).write_bytes((folder / NAME).read_bytes())
    monkeypatch.setattr("opbench.study.run.train", lambda job: pytest.fail("trained"))
    assert quick(tmp_path, studies=names, resume=True) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_another_study_and_another_machine_s_are_not_resumed(folder, study, names, tmp_path, monkeypatch):
    monkeypatch.setattr("opbench.study.run.train", lambda job: pytest.fail("trained"))
    (tmp_path / NAME).write_bytes((folder / NAME).read_bytes())
    with pytest.raises(OpbenchError, match=r"--resume: .* is of another run: the study \w+ is not what it was"):
        quick(tmp_path, studies=("conv3x3",), resume=True)
    elsewhere = msgspec.structs.replace(study.environment, cpu="Another CPU")
    save(msgspec.structs.replace(study, environment=elsewhere), tmp_path / NAME)
    with pytest.raises(OpbenchError, match="is of another run: cpu: Another CPU there, "):
        quick(tmp_path, studies=names, resume=True)


def test_a_training_that_diverged_never_chooses_the_rate(study):
    first, second = study.studies[0].of("nearest", "search")
    diverged = msgspec.structs.replace(second, scores={"psnr": float("nan")})
    assert best_rate([first, diverged], "psnr") == first.rate
    assert best_rate([diverged, first], "psnr") == first.rate
    better = msgspec.structs.replace(second, scores={"psnr": first.scores["psnr"] + 1})
    assert best_rate([first, better], "psnr") == second.rate


def test_an_unknown_study_lists_the_known(tmp_path):
    with pytest.raises(
        OpbenchError, match=r"unknown study 'upsampel'; did you mean 'upsample'\? \(known: conv3x3, down"
    ):
        study_command(StudyRequest(studies=("upsampel",), output=tmp_path, seeds=2, processes=1, quick=True))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": 1}, "--seeds 1: an interval needs at least 2"),
        ({"images": "photos"}, "unknown images 'photos'; did you mean 'photographs'"),
        ({"document": Path("nowhere.json")}, "nowhere.json: no such file"),
    ],
)
def test_what_makes_no_study_is_refused(changed, said, tmp_path):
    with pytest.raises(OpbenchError, match=said):
        quick(tmp_path, **changed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}", "not a study document"),
        (b"[1,", "not a study document"),
        (b'{"schema_version": 1,', "the JSON ends too early"),
        (
            json.dumps({"schema_version": STUDY_VERSION + 1}).encode(),
            "schema_version 2 is newer",
        ),
    ],
)
def test_what_is_no_study_document_is_refused(content, said, tmp_path):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(OpbenchError, match=said):
        read(tmp_path / NAME, StudyDocument)


def test_a_folder_that_cant_be_written_is_found_out_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("opbench.study.run.train", lambda job: pytest.fail("trained"))
    with pytest.raises(OpbenchError, match="can't be written"):
        quick(tmp_path / "file" / "inside")


def test_the_command_ends_with_2_for_an_unknown_study(tmp_path):
    done = in_process.opbench("study", "nothing", "-o", tmp_path)
    assert done.returncode == 2
    assert "unknown study 'nothing'" in done.stderr


@pytest.mark.slow
def test_trainings_in_processes_are_those_of_one_process(tmp_path, monkeypatch):
    """More than one process is what a full study takes; here each of its trainings has one step."""
    import dataclasses

    from opbench.study.training import train

    tiny = dataclasses.replace(STUDIES["upsample"], steps=1, entrants=STUDIES["upsample"].entrants[:2])
    monkeypatch.setattr(run, "study_named", lambda name: tiny)
    monkeypatch.setattr(run, "ROUNDS", 1)
    extent = Extent(("upsample",), seeds=2, images="generated", processes=2)
    (result,) = run_study(extent, "", tmp_path, lambda done, total, what: None).studies
    assert result.complete
    for training in result.of("bilinear", "scored"):
        job = run.TrainingJob("upsample", "bilinear", "scored", training.rate, training.seed, 1, "generated", False)
        assert train(job) == training


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_of_a_training_process_is_named(monkeypatch, death):
    monkeypatch.setattr(run, "WORKER", "dying")
    monkeypatch.setattr(run, "TRAINING_SECONDS", death.seconds)
    death.arrange(monkeypatch)
    monkeypatch.setattr("opbench.process.pool.free_bytes", lambda: 2 * MEMORY_BYTES)
    monkeypatch.setattr("opbench.process.pool.MEMORY_SHARE", 1.0)
    job = run.TrainingJob("upsample", "bilinear", "scored", 0.01, 0, 1, "generated", False)
    said = pytest.raises(TrainingLostError, match=f"a training process .*{re.escape(death.said)}")
    with said, run._workers(Extent(("upsample",), processes=2)) as carry_out:
        list(carry_out([job, job]))
