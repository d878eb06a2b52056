"""A study as a report and as charts."""

from xml.etree import ElementTree

import msgspec
import pytest
from hostile import EVIL
from toy_study import make_result, make_study

from opbench.documents import read, save
from opbench.report.numbers import estimate
from opbench.report.study import SHARED, markdown, write_study
from opbench.report.study_charts import charts
from opbench.study.document import StudyDocument

SVG = "{http://www.w3.org/2000/svg}"


def row_of(text, start):
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_report_is_the_documents_alone(tmp_path):
    save(make_study(), tmp_path / "study.json")
    for name in ("a", "b"):
        write_study(read(tmp_path / "study.json", StudyDocument), tmp_path / name)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    assert set(first) == {"study.md", "loss-toy.svg", "score-toy.svg"}


def test_a_contender_has_its_score_its_difference_and_its_cost():
    text = markdown(make_study())
    name, score, difference, rate, params, slots, macs, step = row_of(text, "bends (bends[torch])")
    assert name == "bends (bends[torch])"
    assert score.startswith("22.")
    assert difference.startswith("+")
    assert (rate, params, slots, macs) == ("0.1", "2,468", "1,000", "1.00 M")
    assert step == "2.00x [2.00, 2.00]"
    assert row_of(text, "base (base[torch])")[2] == row_of(text, "base (base[torch])")[-1] == "baseline"


def test_what_the_slots_learnt_and_every_rate_that_was_tried_are_told():
    text = markdown(make_study())
    assert row_of(text, "bends | 1 | offset spread")[3] == "0.00"
    assert "*offset spread*: root mean square" in text
    assert row_of(text, "bends | 2")[-1] == "0.1 (an end of the grid)"


def test_it_says_what_it_is_and_what_it_isnt():
    text = markdown(make_study())
    assert "These are small studies" in text
    assert "don't show the accuracy on ImageNet or COCO" in text
    assert "Student's t over seeds" in text
    assert "no latency measurement" in text
    assert "opbench study -o DIR" in text
    assert "Incomplete" not in text
    assert "To compare with, doing nothing: PSNR 19.00 dB." in text


def test_a_quick_check_says_that_its_figures_mean_nothing():
    assert "no figure below means anything" in markdown(make_study(quick=True))


@pytest.mark.parametrize("kept", [0, 1, 3, 5, 9])
def test_a_part_of_a_study_is_reported_as_one(kept):
    result = make_result()
    part = make_study(msgspec.structs.replace(result, trainings=result.trainings[:kept]))
    assert f"interrupted after {kept} of 10 trainings" in markdown(part)
    assert all(picture.startswith("<svg") for picture in charts(part).values())
    # Nothing scored of the baseline yet: nothing to draw, and nothing that points to a drawing.
    assert bool(charts(part)) == ("](loss-toy.svg)" in markdown(part)) == (kept > 4)


def test_trainings_that_diverged_are_counted_and_drawn_without():
    result = make_result()
    broken = [
        msgspec.structs.replace(t, scores={"score": float("nan")}, losses=(t.losses[0], *[float("nan")] * 59))
        if t.contender == "bends" and t.seed == 1
        else t
        for t in result.trainings
    ]
    study = make_study(msgspec.structs.replace(result, trainings=tuple(broken)))
    assert row_of(markdown(study), "bends (bends[torch])")[1].endswith("(1 diverged)")
    assert "NaN" not in "".join(charts(study).values())


def test_charts_name_their_axes_units_and_contenders():
    loss, score = (" ".join(words(picture)) for picture in charts(make_study()).values())
    for said in (
        "training step",
        "loss (log scale)",
        "difference to base",
        "base",
        "bends",
        "3 seeds",
        "95 % interval",
    ):
        assert said in loss
    assert "difference in PSNR, dB; right of 0 is better" in score


def test_hostile_text_stays_text():
    result = make_result()
    contenders = tuple(
        msgspec.structs.replace(c, name=EVIL + c.name, operator=EVIL, note=EVIL) for c in result.contenders
    )
    trainings = tuple(msgspec.structs.replace(t, contender=EVIL + t.contender) for t in result.trainings)
    changed = dict.fromkeys(("name", "title", "question", "data", "network", "schedule", "loss_title"), EVIL)
    metrics = tuple(msgspec.structs.replace(m, title=EVIL, unit=EVIL) for m in result.metrics)
    evil = msgspec.structs.replace(
        result, **changed, baseline=EVIL + "base", contenders=contenders, trainings=trainings, metrics=metrics,
        anchors={EVIL: {"score": 1.0}},
    )  # fmt: skip
    study = make_study(evil, command=EVIL, started=EVIL)
    prose = markdown(study).partition("```")[0]
    assert "<script" not in prose.replace("\\<script", "").replace("`<script", "")
    pictures = charts(study)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") for name in pictures)
    for picture in pictures.values():
        tags = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(picture).iter()}
        assert tags <= {"svg", "g", "path", "rect", "line", "text", "tspan", "defs", "clipPath"}


def words(picture):
    return [element.text for element in ElementTree.fromstring(picture).iter() if element.text]


def test_a_figure_and_its_interval_have_the_same_decimals():
    assert estimate(31.416, 31.2, 31.649, 2) == "31.42 [31.20, 31.65]"
    assert estimate(0.4, -0.06, 0.86, 1, signed=True) == "+0.4 [-0.1, +0.9]"
    assert estimate(1.0, float("-inf"), float("inf"), 1) == "1.0 [minus infinite, infinite]"


def test_steps_that_were_timed_beside_others_say_so():
    assert SHARED in markdown(make_study(make_result(step_phase="shared")))
    assert SHARED not in markdown(make_study(make_result(step_phase="clear")))
