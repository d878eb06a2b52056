"""One colour and shape for each operator, in every chart and on every page."""

from opbench import registry
from opbench.report.bars import ACCENT
from opbench.report.dashboard import page
from opbench.report.drawing import FILLS, contender_marks
from opbench.report.marks import BLACK, DARK, DASHES, PALETTE, SHAPES, implementations, marks, operator_of, order

NAMES = [operator.name for operator in registry.every_operator()]


def test_what_opbench_is_about_has_colours_of_its_own():
    found = marks(NAMES)
    of = {name: {mark.colour for mark in found.values() if mark.subject == name} for name in ("CARAFE", "DCNv3")}
    assert of == {"CARAFE": {0}, "DCNv3": {1}}
    assert not {0, 1} & {mark.colour for mark in found.values() if not mark.subject}
    assert found["carafe"].subject == found["yolo-carafe"].subject == "CARAFE"
    assert found["nearest"].colour == found["conv3x3"].colour == BLACK


def test_no_two_operators_of_a_task_look_alike():
    found = marks(NAMES)
    for task in registry.tasks():
        own = [found[name] for name in registry.operators(task)]
        looks = [(mark.colour, mark.shape) for mark in own]
        assert len(set(looks)) == len(looks), task


def test_a_mark_depends_on_nothing_else_that_is_drawn():
    every = marks([*NAMES, "mine"])
    for name in (*NAMES, "mine"):
        assert marks([name])[name] == every[name]


def test_two_strangers_look_different():
    found = marks(f"stranger-{number}" for number in range(12))
    assert len({(mark.colour, mark.shape) for mark in found.values()}) == 12


def test_implementations_differ_in_filling_the_preferred_first():
    assert operator_of("carafe[cpu]/spread=2px") == "carafe"
    found = order(["carafe[unfold]", "nearest[torch]", "carafe[cpu]"])
    assert found == {"carafe[cpu]": 0, "carafe[unfold]": 1, "nearest[torch]": 0}
    assert implementations("carafe").index("cpu") < implementations("carafe").index("unfold")
    channels = contender_marks([{"contender": "carafe[cpu]"}, {"contender": "carafe[unfold]"}])
    strokes, fills, shapes = (channels[name]["scale"]["range"] for name in ("stroke", "fill", "shape"))
    assert strokes == [PALETTE[0], PALETTE[0]]
    assert shapes[0] == shapes[1]
    assert fills == [PALETTE[0], FILLS[1]]


def test_the_page_has_as_many_colours_shapes_and_fillings():
    style, scales = page.asset("style.css"), page.asset("scales.js")
    assert [f"--c{index}: " in style for index in range(len(PALETTE) + 1)] == [True] * len(PALETTE) + [False]
    for index, (light, dark) in enumerate(list(zip(PALETTE, DARK, strict=True))[:-1]):
        assert f"--c{index}: light-dark({light}, {dark})".lower() in style
    assert scales.partition("const SHAPES")[2].partition("];")[0].count("(x, y, r) =>") == len(SHAPES)
    assert len(DASHES) == 4
    assert all(f".line.v{index}" in style and f".mark.v{index}" in style for index in (1, 2, 3))


def test_charts_and_page_have_one_ground_for_what_is_accented():
    assert f"--mark: light-dark({ACCENT}" in page.asset("style.css")
