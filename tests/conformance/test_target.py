"""Targets: what a name stands for, and one clear line for each way in which it can't be used."""

import inspect

import pytest
import torch

from opbench.conformance.adapting import adapt, core_signature
from opbench.conformance.findings import Request
from opbench.conformance.judging import prepare
from opbench.conformance.target import assignments, load, parse
from opbench.operators.carafe import carafe
from opbench.operators.dcnv3 import dcnv3
from opbench.schema import OpbenchError

SOURCE = """
import helper_beside

def carafe(x, mask, *, kernel_size, group_size, scale_factor):
    return helper_beside.VALUE

class Layers:
    @staticmethod
    def inner(x, mask, **options):
        return 7

LIMIT = 3
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "helper_beside.py").write_text("VALUE = 5")
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path / "mine.py"


def test_a_function_in_a_file_is_found_and_the_file_s_neighbours_can_be_imported(file):
    assert load(parse(f"{file}:carafe"))(None, None, kernel_size=1, group_size=1, scale_factor=1) == 5


def test_a_name_may_have_dots(file):
    assert load(parse(f"{file}:Layers.inner"))(None, None) == 7


def test_a_function_in_a_package_is_found():
    assert load(parse("opbench.operators.carafe:carafe")) is carafe


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.py:carafe", "nowhere.py: no such file"),
        ("mine.py", "expected FILE.py:NAME or package.module:NAME"),
        (":carafe", "expected FILE.py:NAME or package.module:NAME"),
        ("mine.py:", "expected FILE.py:NAME or package.module:NAME"),
        ("mine.py:a-b", "expected FILE.py:NAME or package.module:NAME"),
    ],
)
def test_a_target_that_can_t_be_read_is_said_before_anything_is_imported(target, said):
    with pytest.raises(OpbenchError, match=said.replace(".", r"\.")):
        parse(target)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("caraf", "unknown name 'caraf'; did you mean 'carafe'? (known: Layers, carafe)"),
        ("Layers.outer", "unknown name 'outer'"),
        ("LIMIT", "expected a function or a torch.nn.Module, LIMIT is an int"),
    ],
)
def test_a_name_that_is_not_there_or_no_function_is_said(file, name, said):
    with pytest.raises(OpbenchError) as error:
        load(parse(f"{file}:{name}"))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import nonsense_that_is_not_there",
            "raised ModuleNotFoundError: No module named 'nonsense_that_is_not_there'",
        ),
        ("def broken(:", "raised SyntaxError: invalid syntax"),
        ("raise RuntimeError('first line\\nsecond line')", "raised RuntimeError: first line"),
        ("import sys; sys.exit('bye')", "raised SystemExit: bye"),
    ],
)
def test_a_source_that_can_t_be_imported_is_said_in_one_line(tmp_path, source, said):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(OpbenchError) as error:
        load(parse(f"{tmp_path / 'mine.py'}:carafe"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_package_that_is_not_installed_is_said():
    with pytest.raises(OpbenchError, match="No module named 'no_such_package'"):
        load(parse("no_such_package.ops:carafe"))


def test_what_is_missing_is_named_with_the_option_that_mends_it(tmp_path):
    (tmp_path / "pack" / "ops").mkdir(parents=True)
    (tmp_path / "pack" / "conv.py").write_text("def up(): ...\n")
    for folder in ("pack", "pack/ops"):
        (tmp_path / folder / "__init__.py").write_text("")
    inner = tmp_path / "pack" / "ops" / "core_of_a_package.py"
    inner.write_text("from ..conv import up\n")
    with pytest.raises(OpbenchError, match=f"it is part of a package; add --path {tmp_path}, the folder"):
        load(parse(f"{inner}:up"))
    assert load(parse(f"{inner}:up"), (str(tmp_path),)).__name__ == "up"
    (tmp_path / "wants.py").write_text("import no_such_thing.layers\n")
    with pytest.raises(OpbenchError, match="install no_such_thing, or add --path FOLDER, the folder that holds"):
        load(parse(f"{tmp_path / 'wants.py'}:up"))
    with pytest.raises(OpbenchError, match="--path nowhere: no such folder"):
        load(parse(f"{inner}:up"), ("nowhere",))


# --- Signatures -------------------------------------------------------------------------------------------------

CARAFE = core_signature(carafe)
DCNV3 = core_signature(dcnv3)
NAME = parse("some.module:mine")
OPTIONS = {"kernel_size": 1, "group_size": 1, "scale_factor": 2}


def test_the_signature_of_a_core_is_that_of_its_public_function():
    assert str(CARAFE) == "carafe(x, mask, *, kernel_size, group_size, scale_factor)"
    assert DCNV3.tensors == ("x", "offset", "mask")
    assert DCNV3.options["stride"] == 1
    assert DCNV3.options["kernel_size"] is inspect.Parameter.empty
    assert "implementation" not in DCNV3.options


def by_name(x, mask, kernel_size, group_size, scale_factor):
    return x, mask, kernel_size


def other_names(features, masks, kernel_size=1, group_size=1, scale_factor=1):
    return features, masks, kernel_size


def other_order(mask, x, *, kernel_size, group_size, scale_factor):
    return x, mask, kernel_size


def takes_any(x, mask, **options):
    return x, mask, options["kernel_size"]


def takes_anything(**everything):
    return everything["x"], everything["mask"], everything["kernel_size"]


def with_more(x, mask, *, kernel_size, group_size, scale_factor, tile=8):
    return x, mask, kernel_size


@pytest.mark.parametrize("function", [by_name, other_names, other_order, takes_any, takes_anything, with_more])
def test_a_function_is_called_with_each_tensor_in_its_place(function):
    x, mask = torch.zeros(1), torch.ones(1)
    call = adapt(NAME, function, CARAFE, {}, {}).function
    assert call(x=x, mask=mask, **OPTIONS) == (x, mask, 1)


def test_an_option_with_a_default_may_be_missing_and_stays_there():
    def mine(x, offset, mask, *, kernel_size, pad, group):
        return kernel_size

    adapted = adapt(NAME, mine, DCNV3, {}, {})
    assert adapted.fixed == {"stride": 1, "dilation": 1, "offset_scale": 1.0, "remove_center": False}
    options = {"kernel_size": 3, "pad": 1, "group": 1}
    assert adapted.function(x=0, offset=0, mask=0, stride=1, **options) == 3
    with pytest.raises(NotImplementedError, match="stride: the target has no such argument"):
        adapted.function(x=0, offset=0, mask=0, stride=2, **options)


def test_a_fixed_option_may_be_missing():
    adapted = adapt(NAME, lambda x, mask, group_size, scale_factor: 1, CARAFE, {"kernel_size": 5}, {})
    assert adapted.fixed == {"kernel_size": 5}
    assert adapted.notes == ("kernel_size: the target has no such argument; checked at kernel_size=5",)


def test_options_are_found_by_what_their_names_mean():
    """As the official Python core of DCNv3 is called."""

    def official(input, offset, mask, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
                 group, group_channels, offset_scale, remove_center):  # fmt: skip
        return kernel_h, kernel_w, stride_w, pad_h, dilation_w, group, group_channels, offset_scale, remove_center

    adapted = adapt(NAME, official, DCNV3, {}, {}, channels_last=True)
    assert "kernel_h and kernel_w: taken for kernel_size" in adapted.notes
    tensors = {"x": torch.zeros(1, 4, 4, 6), "offset": 0, "mask": 0}
    options = {"kernel_size": 3, "stride": 2, "pad": 1, "dilation": 4, "group": 2}
    got = adapted.function(**tensors, **options, offset_scale=0.5, remove_center=True)
    assert got == (3, 3, 2, 1, 4, 2, 3, 0.5, True)

    def up(features, masks, k_up, groups, up_factor):
        return k_up, groups, up_factor

    call = adapt(NAME, up, CARAFE, {}, {}).function
    assert call(x=0, mask=0, kernel_size=5, group_size=1, scale_factor=2) == (5, 1, 2)


def test_a_further_argument_is_asked_for_and_can_be_given():
    def mine(x, mask, flavour, *, kernel_size, group_size, scale_factor):
        return flavour

    with pytest.raises(OpbenchError, match="its argument flavour has no default: add --arg flavour=VALUE"):
        adapt(NAME, mine, CARAFE, {}, {})
    assert adapt(NAME, mine, CARAFE, {}, {"flavour": 3}).function(x=0, mask=0, **OPTIONS) == 3
    with pytest.raises(OpbenchError, match="did you mean 'flavour'"):
        adapt(NAME, mine, CARAFE, {}, {"flavor": 3})


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x, *, kernel_size, group_size, scale_factor: x, "it takes 1 of 2 tensors"),
        (lambda x, mask: x, "it has no argument kernel_size, scale_factor"),
        (lambda x, mask, weight, **options: x, "its argument weight has no default"),
    ],
)
def test_a_wrong_signature_names_the_expected_one(function, why):
    with pytest.raises(OpbenchError) as error:
        adapt(NAME, function, CARAFE, {}, {})
    assert why in str(error.value)
    assert f"expected {CARAFE}" in str(error.value)


# --- Options ----------------------------------------------------------------------------------------------------


def test_assignments_are_ints_floats_booleans_and_words():
    texts = ["kernel_size=5", "offset_scale=0.5", "remove_center=True", "act=false", "norm_layer=LN"]
    assert assignments("--fix", texts) == {
        "kernel_size": 5,
        "offset_scale": 0.5,
        "remove_center": True,
        "act": False,
        "norm_layer": "LN",
    }


def test_lists_quoted_words_and_none_are_read():
    texts = ["k=[3, 5]", "act='none'", "norm=None", "size=(1, 2)"]
    assert assignments("--arg", texts) == {"k": [3, 5], "act": "none", "norm": None, "size": (1, 2)}


@pytest.mark.parametrize("text", ["kernel_size", "kernel_size=", "=5", "a b=1"])
def test_what_is_no_assignment_is_said(text):
    with pytest.raises(OpbenchError, match="expected NAME=VALUE"):
        assignments("--fix", [text])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def __getattr__(name): raise SystemExit(0)", "looking up core raised SystemExit: 0"),
        ("def __getattr__(name): raise ValueError('no')", "looking up core raised ValueError: no"),
        ("class core: pass", "core is a class and no torch.nn.Module: expected a function or a module"),
    ],
)
def test_a_name_that_answers_with_an_error_or_is_another_class_is_wrong_usage(tmp_path, source, said):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(OpbenchError, match=said):
        prepare(Request(f"{tmp_path / 'mine.py'}:core", "carafe"))
