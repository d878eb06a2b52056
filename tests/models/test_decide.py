"""`opbench decide`: the places of a network, and what a run over them says of each contender."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest
from factory import make_case, make_counts, make_failure, make_memory, make_record, make_run
from hostile import EVIL
from torch import nn

from opbench import registry, suites
from opbench.decision.nouns import OutOfReach, PlacesOfShape
from opbench.decision.places import FoundPlaces, competing, find, suite, suite_name
from opbench.decision.weighing import weigh
from opbench.report.decision import markdown, sentences, write
from opbench.schema import OpbenchError, Skipped

sys.path.insert(0, str(Path(__file__).parent))
import networks


@pytest.fixture(scope="module", autouse=True)
def declared():
    registry.load()


# --- Places -----------------------------------------------------------------------------------------------------


class Pyramid(nn.Module):
    """One module called at two sizes, two of one shape, and one that is no place of the slot."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.mixes = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.far = nn.Upsample(scale_factor=4)

    def forward(self, x):
        x = self.stem(x)
        for mix in self.mixes:
            x = mix(x)
        return self.far(self.shared(self.up(self.shared(x))))


def places(*tasks, **options):
    found = find(Pyramid(), "net", (16, 16), tasks=tasks, **options)
    return {(one.task, one.workload): one for one in found.places}, found.left_out


def test_a_workload_is_a_shape_and_counts_modules_once_and_calls_as_often_as_they_come():
    found, _ = places("conv3x3")
    assert {name: (one.modules, one.calls) for (_, name), one in found.items()} == {"8x8x8": (3, 3), "8x16x16": (0, 1)}
    assert found["conv3x3", "8x8x8"].dims == {"N": 1, "C": 8, "H": 8, "W": 8, "G": 1}
    assert found["conv3x3", "8x8x8"].source == "net at 16x16, 3 calls: mixes.0, mixes.1, shared"


def test_every_slot_of_a_network_is_found_and_what_is_no_place_is_said_with_why():
    found, left_out = places()
    assert set(found) == {
        ("upsample2x", "8x8x8"),
        ("conv3x3", "8x8x8"),
        ("conv3x3", "8x16x16"),
        ("downsample2x", "3x16x16-to-8"),
    }
    assert left_out == (OutOfReach("far", "it upsamples by 4, and contenders by 2"),)
    _, left_out = places("conv3x3")
    assert [one.what for one in left_out] == ["1 3x3 convolution of stride 2"]


def test_a_batch_is_part_of_the_workload_and_a_glob_narrows_the_places():
    found, _ = places("conv3x3", batch=4, where="mixes.*")
    assert {name: (one.dims["N"], one.calls) for (_, name), one in found.items()} == {"4x8x8x8": (4, 2)}


class Bottleneck(Pyramid):
    """A block of its own name, so that what it holds has a role."""


def test_a_role_narrows_the_places_and_an_unknown_one_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Bottleneck())
    found = find(model, "net", (16, 16), tasks=("conv3x3",), roles=("bottleneck",))
    assert sum(one.calls for one in found.places) == 4
    assert all(name.startswith("1.") for one in found.places for name in one.names)
    with pytest.raises(OpbenchError, match=r"--role: unknown role 'bottlenek'.*did you mean 'bottleneck'"):
        find(model, "net", (16, 16), roles=("bottlenek",))
    with pytest.raises(OpbenchError, match="no place of conv3x3 in the role head at 16x16"):
        find(model, "net", (16, 16), tasks=("conv3x3",), roles=("head",))


def test_an_unknown_task_and_a_network_without_places_are_refused_in_a_sentence():
    with pytest.raises(OpbenchError, match=r"--task: unknown task of a network 'upsampl'.*did you mean 'upsample2x'"):
        places("upsampl")
    with pytest.raises(OpbenchError, match=r"net: no place of upsample2x where 'mixes\.\*' at 16x16"):
        places("upsample2x", where="mixes.*")
    with pytest.raises(OpbenchError, match="interpolate inside a forward, which no swap reaches"):
        find(networks.Interpolating(), "net", (32, 32), tasks=("upsample2x",), where="nothing")


def test_the_suite_is_one_that_a_run_reads():
    found, _ = places()
    names = {task: competing(task, "cpu", "float32").contenders for task in ("upsample2x", "conv3x3", "downsample2x")}
    hostile = 'nets/"odd"\n\x7f.py:build'
    text = suite(hostile, list(found.values()), names, dtype="float32", device="cpu", mode="training", spread=1.5)
    read = suites.parse(text, "mine", where="mine.toml")
    assert [(one.task, one.name, one.dims, one.source) for one in read.workloads] == [
        (one.task, one.workload, one.dims, one.source) for one in found.values()
    ]
    assert {one.modes for one in read.workloads} == {("training",)}
    assert {one.spreads for one in read.workloads} == {(1.5,)}
    assert suite_name("yolo11n.yaml") == "yolo11n"
    assert suite_name("nets/my_net.py:build") == "my-net-build"


def test_each_operator_competes_by_the_implementation_that_auto_takes():
    found = competing("upsample2x", "cpu", "float32")
    assert found.contenders[0] == "nearest[torch]"
    operators = [name.partition("[")[0] for name in found.contenders]
    missing = [one.what for one in found.missing]
    assert sorted([*operators, *missing]) == sorted(registry.operators("upsample2x"))
    assert "carafe[cpu]" in found.contenders
    # On a GPU that isn't here nothing of torch's own is left out for it.
    assert "carafe[cpu]" not in competing("upsample2x", "cuda", "float32").contenders


def test_our_own_yolov8_has_the_places_and_parameters_of_the_packages(tasks):
    from opbench.models.plain_yolov8 import yolov8n, yolov8s

    for ours, name, constants in ((yolov8n(), "yolov8n.yaml", 16), (yolov8s(), "yolov8s.yaml", 16)):
        theirs = tasks.DetectionModel(name, verbose=False)
        count = [sum(value.numel() for value in model.parameters()) for model in (ours, theirs)]
        assert count[0] == count[1] - constants, "their decoding of boxes holds 16 constants as parameters"
        found = [
            {(one.task, one.workload): (one.modules, one.calls) for one in find(model, "net", (64, 64)).places}
            for model in (ours, theirs)
        ]
        assert found[0] == found[1]


# --- Weighing ---------------------------------------------------------------------------------------------------

NEAR = PlacesOfShape("upsample2x", "256x20x20", {"N": 1, "C": 256, "H": 20, "W": 20}, ("a", "b"), 2, 2)
FAR = PlacesOfShape("upsample2x", "128x40x40", {"N": 1, "C": 128, "H": 40, "W": 40}, ("b",), 0, 3)
# contender: (latency over nearest at NEAR, at FAR, parameters)
CONTENDERS = {
    "nearest[torch]": (1.0, 1.0, 0),
    "bilinear[torch]": (1.5, 1.5, 0),
    "carafe[cpu]": (4.0, 6.0, 70_000),
    "carafe[unfold]": (90.0, 90.0, 70_000),
    "yolo-carafe[cpu]": (4.0, 6.0, 70_100),
    "deconv[torch]": (10.0, 10.0, 590_000),
    "spatial-attention[torch]": (7.0, 7.0, 2_000),
}


def record(contender, place, at, **changes):
    ratio, params = CONTENDERS[contender][at], CONTENDERS[contender][2]
    return make_record(
        make_case(contender, workload=place.workload, dims=place.dims),
        seconds=(1e-3, 2e-3)[at],
        ratio=ratio,
        counts=make_counts(10 * params, params, traffic_bytes=1000),
        memory=make_memory((1 << 20) * (at + 1)),
        **changes,
    )


def decision(*others, **changes):
    records = [record(name, place, at) for at, place in enumerate((NEAR, FAR)) for name in CONTENDERS]
    return weighed([*records, *others], **changes)


def weighed(records, **changes):
    return weigh(
        make_run(records, **changes),
        FoundPlaces((NEAR, FAR), (OutOfReach("c (Upsample)", "it upsamples by 4, and contenders by 2"),)),
        target="net.yaml",
        network="Net",
        input_shape=(1, 3, 640, 640),
        command="opbench decide net.yaml",
        dtype="float32",
        device="cpu",
        mode="inference",
        spread=2.0,
        missing={"upsample2x": (OutOfReach("odd", "no implementation of it runs here on cpu in float32"),)},
    )


@pytest.fixture(scope="module")
def decided():
    return decision()


def of(decided):
    (slot,) = decided.slots
    return {one.contender: one for one in slot.contenders}


def test_parameters_are_summed_over_modules_and_the_rest_over_calls(decided):
    carafe = of(decided)["carafe[cpu]"]
    assert carafe.params == 2 * 70_000
    assert carafe.macs == (2 + 3) * 700_000
    assert carafe.traffic_bytes == (2 + 3) * 1000
    assert carafe.peak_bytes == 2 << 20, "of the place that needs most: they are called one after the other"
    assert carafe.seconds == pytest.approx(2 * 4e-3 + 3 * 12e-3, rel=0.1)
    # In all calls 2 ms and 6 ms of nearest, of which carafe takes 4 and 6 times.
    assert carafe.ratio.value == pytest.approx((2 * 4 + 6 * 6) / 8, rel=0.02)
    assert carafe.ratio.low < carafe.ratio.value < carafe.ratio.high


def test_a_rival_with_no_more_parameters_that_is_faster_by_intervals_dominates(decided):
    found = {name: one.standing for name, one in of(decided).items()}
    assert found == {
        "nearest[torch]": "fixed",
        "bilinear[torch]": "fixed",
        "carafe[cpu]": "front",
        "carafe[unfold]": "dominated",
        "yolo-carafe[cpu]": "undecided",
        "deconv[torch]": "dominated",
        "spatial-attention[torch]": "front",
    }
    # Slower by 10 / 7, and by 10 / 5.5: the sentence names what says most.
    assert of(decided)["deconv[torch]"].beaten_by[0].contender in ("carafe[cpu]", "yolo-carafe[cpu]")
    assert of(decided)["yolo-carafe[cpu]"].perhaps[0].contender == "carafe[cpu]"


def test_ranks_are_ranges_where_intervals_do_not_tell(decided):
    ranks = {name: one.ranks for name, one in of(decided).items()}
    assert ranks["nearest[torch]"] == (1, 1)
    assert ranks["carafe[cpu]"] == ranks["yolo-carafe[cpu]"] == (3, 4)
    assert ranks["carafe[unfold]"] == (7, 7)
    assert next(iter(of(decided))) == "nearest[torch]", "the baseline first, then from fastest to slowest"


def test_few_rounds_decide_nothing():
    records = [record(name, place, at, rounds=3) for at, place in enumerate((NEAR, FAR)) for name in CONTENDERS]
    found = of(weighed(records))
    assert {one.standing for one in found.values()} == {"fixed", "undecided", "front"}
    assert found["deconv[torch]"].standing == "undecided"


def test_who_fails_at_one_shape_has_no_price_and_the_rest_keep_theirs():
    records = [record(name, place, at) for at, place in enumerate((NEAR, FAR)) for name in CONTENDERS]
    wrong = make_case("bicubic[torch]", workload=NEAR.workload, dims=NEAR.dims)
    half = make_case("pixel-shuffle[torch]", workload=NEAR.workload, dims=NEAR.dims)
    decided = weighed([*records, make_failure(wrong, "incorrect", "output differs"), make_record(half)])
    found = of(decided)
    assert found["bicubic[torch]"].standing == found["pixel-shuffle[torch]"].standing == "unpriced"
    assert found["pixel-shuffle[torch]"].message == "it fits 1 of the 2 shapes"
    assert found["carafe[cpu]"].standing == "front"
    said = " ".join(sentences(decided.slots[0]))
    assert "No price, incorrect: bicubic[torch] (output differs)." in said


def test_a_disturbed_contender_keeps_what_is_counted():
    records = [record(name, place, at) for at, place in enumerate((NEAR, FAR)) for name in CONTENDERS]
    records = [
        record(one.case.contender, NEAR, 0, outcome="disturbed")
        if (one.case.operator, one.case.workload) == ("deconv", NEAR.workload)
        else one
        for one in records
    ]
    deconv = of(weighed(records))["deconv[torch]"]
    assert (deconv.standing, deconv.params, deconv.seconds) == ("unpriced", 2 * 590_000, None)


# --- What is said -----------------------------------------------------------------------------------------------


def test_the_sentences_say_what_is_never_worth_it_and_why_and_what_would_pay(decided):
    said = sentences(decided.slots[0])
    assert said[0].startswith("5 places of 2 shapes, each priced as often as the network calls it; nearest[torch]")
    (deconv,) = [line for line in said if line.startswith("deconv[torch] is never worth its cost here")]
    assert "fewer parameters (140," in deconv
    assert deconv.endswith("Only a better score could pay for it.")
    (slow,) = [line for line in said if line.startswith("carafe[unfold] is never worth")]
    assert slow.endswith("the time of carafe[cpu], which computes the same."), "no score can pay for that"
    (tie,) = [line for line in said if line.startswith("yolo-carafe[cpu] is undecided")]
    assert "of carafe[cpu], with no fewer parameters" in tie


def test_the_page_says_that_accuracy_was_not_measured_and_draws_the_front(decided, tmp_path):
    page = write(decided, tmp_path).read_text()
    for said in (
        "Accuracy was not measured",
        "it says nothing of a GPU",
        "On the front (nothing that learns is faster with no more parameters): carafe\\[cpu\\]",
        "it upsamples by 4",
        "no implementation of it runs here on cpu",
        "opbench decide net.yaml",
    ):
        assert said.replace("\\", "") in page.replace("\\", ""), said
    picture = ElementTree.parse(tmp_path / "decide-upsample2x.svg").getroot()
    words = " ".join(element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert "upsample2x: latency against parameters" in words
    assert "spatial-attention[torch]" in words
    assert "](decide-upsample2x.svg)" in page
    assert write(decided, tmp_path).read_text() == page


def test_text_from_anybody_stays_text(decided):

    (slot,) = decided.slots
    evil = msgspec.structs.replace(
        decided, target=EVIL, quality=EVIL, left_out=(OutOfReach(EVIL, EVIL),), slots=(slot,)
    )
    assert EVIL not in markdown(evil, ())


def test_what_was_planned_away_is_listed_once():
    skip = Skipped("upsample2x/256x20x20/float32/cpu/inference/carafe[triton]", "carafe[triton] runs on cuda only")
    again = Skipped("upsample2x/128x40x40/float32/cpu/inference/carafe[triton]", "carafe[triton] runs on cuda only")
    (slot,) = decision(skipped=(skip, again)).slots
    assert [one.what for one in slot.skipped] == ["odd", "carafe[triton]"]
