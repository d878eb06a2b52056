"""What a swap costs a network: counts that can be checked by hand, and the outcome told without a wall-clock time."""

import dataclasses
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from opbench import documents
from opbench.models import network_case, side_by_side, variants
from opbench.models.costs import BASELINE, CostRequest, Costs, Swap, parse_swap
from opbench.models.layers import profile
from opbench.models.replacements import operators
from opbench.models.side_by_side import measure
from opbench.models.slots import passed_over
from opbench.models.swap import swap
from opbench.models.target import load_model
from opbench.network_request import parse_size
from opbench.operators.carafe import CARAFE
from opbench.operators.dcnv3 import DCNv3
from opbench.report.costs import changes, comparison, layers, sentences
from opbench.report.model import as_markdown
from opbench.schema import OpbenchError

sys.path.insert(0, str(Path(__file__).parent))
import networks

NETWORKS = Path(networks.__file__)


def target(name):
    return f"{NETWORKS}:{name}"


def request(name="Small", *swaps, **options):
    settings = {"size": (32, 32), "budget_seconds": 0.05, "precision": 0.9, **options}
    return CostRequest(target(name), tuple(map(parse_swap, swaps)), **settings)


@pytest.fixture(scope="module")
def both():
    return measure(request("Small", "upsample=carafe", "conv3x3=dcnv3[gather]"))


def test_every_swap_is_measured_alone_and_all_together(both):
    assert [variant.name for variant in both.variants] == [
        BASELINE,
        "upsample=carafe",
        "conv3x3=dcnv3[gather]",
        "upsample=carafe + conv3x3=dcnv3[gather]",
    ]
    assert both.variants[3].title == "carafe for 1 Upsample and dcnv3 for 1 Conv2d"
    assert [[change.name for change in variant.changes] for variant in both.variants] == [
        [],
        ["up"],
        ["mix"],
        ["up", "mix"],
    ]


CARAFE_PARAMS = 16 * 64 + 64 + (9 * 64 + 1) * 100
DCNV3_PARAMS = 2 * 16**2 + 5 * 16 + 9 * 16 + 27 * 17
# Per input pixel of a 16 x 16 map.
CARAFE_MACS = 256 * (16 * 64 + 9 * 64 * 100 + 100 * 16)
DCNV3_MACS = 256 * (2 * 16**2 + 9 * 16 + 27 * 16 + 36 * 16)
CONV_MACS = 256 * 9 * 16**2


def test_parameters_and_macs_differ_by_the_closed_forms(both):
    base, carafe, dcnv3, together = both.variants
    assert carafe.params - base.params == CARAFE_PARAMS
    assert dcnv3.params - base.params == DCNV3_PARAMS - 9 * 16**2
    assert carafe.macs.macs - base.macs.macs == CARAFE_MACS
    assert dcnv3.macs.macs - base.macs.macs == DCNV3_MACS - CONV_MACS
    assert together.macs.macs - base.macs.macs == CARAFE_MACS + DCNV3_MACS - CONV_MACS


def test_what_torchs_counter_misses_is_named(both):
    base, carafe, *_ = both.variants
    assert base.stock.macs == base.macs.macs
    assert carafe.macs.macs - carafe.stock.macs == 256 * 100 * 16
    (line,) = [line for line in sentences(both) if line.startswith("Of upsample=carafe,")]
    assert "is 410 k MACs short: it has no formula for opbench.carafe_" in line


def test_the_trained_memory_is_more_than_that_of_an_evaluation(both):
    for variant in both.variants:
        assert variant.training_memory.peak_bytes > variant.memory.peak_bytes > 0
        assert variant.training_memory.saved_bytes > 0


def test_every_part_was_proven_before_any_was_timed(both):
    assert {proven.part.split("[")[0] for proven in both.proven} == {"carafe", "dcnv3"}
    assert all(proven.verdict.correct for proven in both.proven)


def test_a_wrong_part_is_never_timed(monkeypatch):
    declared = operators()["dcnv3"]
    wrong = dataclasses.replace(
        declared.implementations["gather"], function=lambda x, *_, **options: torch.ones_like(x)
    )
    operator = dataclasses.replace(declared, implementations={"gather": wrong})
    monkeypatch.setattr("opbench.registry._operators", {("conv3x3", "dcnv3"): operator})
    monkeypatch.setattr(side_by_side, "measure_panel", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(OpbenchError, match=r"dcnv3\[gather\] of 16 channels is not what its definition says"):
        measure(request("Small", "conv3x3=dcnv3[gather]"))


def test_a_part_without_a_definition_is_said_not_to_be_proven():
    found = measure(request("Small", "upsample=carafe", arguments=("scale=3",)))
    (proven,) = found.proven
    assert proven.verdict is None
    assert "Not proven: carafe[" in "\n".join(sentences(found))
    assert "it upsamples by 3" in proven.why


def test_the_plain_sentence_says_what_the_swap_costs(both):
    line = sentences(both)[0]
    assert line.startswith(f"carafe for 1 Upsample costs +{CARAFE_PARAMS:,} params (21.9x), 22.0x MACs, +125.0 % peak")
    assert line.endswith("latency at 32x32, batch 1, float32, inference on cpu.")
    assert "Offsets of deformable layers deviate by 2 px" in "\n".join(sentences(both))


def test_the_table_has_a_row_for_each_network_and_the_changes_one_for_each_layer(both):
    table = comparison(both)
    assert [row[0] for row in table.rows] == [variant.name for variant in both.variants]
    assert [row[7] == "baseline" for row in table.rows] == [True, False, False, False]
    assert [row[:4] for row in changes(both).rows] == [
        ("up", "Upsample", "CARAFE", "16x16x16 -> 16x32x32"),
        ("mix", "Conv2d", "ChannelsFirstDCNv3", "16x16x16 -> 16x16x16"),
    ]


def test_layers_are_listed_with_their_shares_and_a_swapped_one_is_one_layer(both):
    kinds = {layer.name: layer.kind for layer in both.variants[3].profile.layers}
    assert kinds == {
        "stem": "Conv2d",
        "mix": "ChannelsFirstDCNv3",
        "norm": "BatchNorm2d",
        "up": "CARAFE",
        "head": "Conv2d",
    }
    for variant in both.variants:
        shares = [layer.share for layer in variant.profile.layers]
        assert sum(shares) + variant.profile.outside == pytest.approx(1)
    assert [row[0] for row in layers(both.variants[1]).rows][-2:] == ["all swapped", "outside layers"]


def test_a_layer_holds_at_least_its_output():
    model = networks.Small()
    found = {layer.name: layer.peak_bytes for layer in profile(model, torch.rand(1, 3, 32, 32), rounds=1).layers}
    assert found["up"] == 16 * 32 * 32 * 4
    assert found["head"] == 2 * 32 * 32 * 4
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_in_training_a_call_is_forward_and_backward():
    found = measure(request("Small", "conv3x3=depthwise3x3", mode="training"))
    base, swapped = found.variants
    # The stem's input needs no gradient: two thirds of its backward pass are not there.
    stem, head = 256 * 9 * 3 * 16, 1024 * 16 * 2
    assert base.macs.macs == 2 * stem + 3 * CONV_MACS + 3 * head
    assert swapped.macs.macs == 2 * stem + 3 * (CONV_MACS // 16) + 3 * head
    told = "\n".join(sentences(found))
    assert "in training forward and backward" in told
    # Its weight gradient counted as a dense convolution's: 9 C^2 for 9 C.
    assert swapped.stock.macs - swapped.macs.macs == CONV_MACS - CONV_MACS // 16
    assert "MACs over: it takes the weight gradient of a grouped convolution for a dense one's." in told


def test_interpolation_out_of_reach_is_told_and_counted_by_any_factor():
    found = measure(request("Interpolating", "upsample=bilinear"))
    assert found.out_of_reach == ("Interpolating",)
    assert "Not reached by any swap: Interpolating" in "\n".join(sentences(found))
    base, swapped = found.variants
    assert swapped.macs.macs - base.macs.macs == 4 * 16 * 32 * 32
    plain = measure(request("Small")).variants[0]
    assert base.macs.macs - plain.macs.macs == 4 * 2 * 64 * 64


def test_offsets_are_spread_in_every_deformable_layer():
    model = networks.Small()
    swap(model, "conv3x3", DCNv3)
    assert model.mix.offset.weight.abs().max() == 0
    x = torch.rand(1, 3, 64, 64)
    assert network_case.spread_offsets(model, x, 2.0) == 1
    seen = []
    model.mix.offset.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        model.eval()(x)
    assert seen[0].square().mean().sqrt().item() == pytest.approx(2.0, rel=1e-3)
    assert network_case.spread_offsets(networks.Small(), x, 2.0) == 0


def test_the_answer_as_json_and_markdown_holds_every_variant(both):
    assert documents.parse(documents.render(both), Costs) == both
    document = msgspec.json.decode(documents.render(both))
    assert [variant["name"] for variant in document["variants"]] == [variant.name for variant in both.variants]
    assert all(len(variant["latency"]["samples_seconds"][0]) >= 8 for variant in document["variants"])
    text = as_markdown(both)
    assert text.count("| `upsample=carafe` |") == 1
    assert "### Layers that were swapped" in text


def test_swaps_of_the_same_layer_are_measured_alone_and_never_together():
    found = measure(request("Small", "upsample=nearest-conv3x3", "up=deconv"))
    assert [variant.name for variant in found.variants] == [BASELINE, "upsample=nearest-conv3x3", "up=deconv"]
    assert [row[2] for row in changes(found).rows] == ["Sequential", "ConvTranspose2d"]
    assert "Not measured together: upsample=nearest-conv3x3 and up=deconv take the same" in "\n".join(sentences(found))


def test_a_swap_leaves_what_another_swap_brought():
    found = measure(request("Small", "upsample=nearest-conv3x3", "conv3x3=depthwise3x3"))
    assert [change.name for change in found.variants[3].changes] == ["up", "mix"]


def test_convolutions_that_the_slot_leaves_are_counted_with_the_reason():
    found = measure(request("Small", "conv3x3=depthwise3x3"))
    assert "conv3x3=depthwise3x3 takes 1 of 2 3x3 convolutions; left as they are: 1 of stride 2." in sentences(found)
    grouped, dilated, wider = (
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, dilation=2),
        nn.Conv2d(4, 8, 3, padding=1),
    )
    assert passed_over(nn.Sequential(grouped, dilated, wider, nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))) == {
        "grouped": 1,
        "dilated": 1,
        "that change the channels": 1,
        "padded otherwise": 1,
    }


def test_what_can_not_be_trained_is_still_measured_in_inference():
    (variant,) = (found := measure(request("Untrainable"))).variants
    assert variant.memory.peak_bytes > 0
    assert variant.training_memory.peak_bytes is None
    assert "Training memory not measured: Untrainable: none of its outputs needs" in "\n".join(sentences(found))


def test_an_implementation_that_only_the_device_runs_is_given_to_the_core_there(monkeypatch):
    declared = operators()["carafe"].implementations["triton"]
    monkeypatch.setattr(variants, "implementation_of", lambda one, asked: declared)
    asked = request("Small", "upsample=carafe[triton]", device="cuda")
    model, x = networks.Small(), torch.rand(1, 3, 32, 32)
    swapped = variants.networks(model, asked, x, variants.places(model, asked, x))[1]
    assert swapped.model.up.implementation == "auto"
    swapped.model(x)
    variants.appoint(swapped, asked)
    assert swapped.model.up.implementation == "triton"


def test_the_stem_is_found_wherever_it_is_listed():
    (variant,) = measure(request("HeadFirst")).variants
    assert variant.params == 8 * 8 * 9 + 8 + 3 * 8 + 8
    assert measure(request("Grey", size=(1, 32, 32))).input_shape == (1, 1, 32, 32)


# --- What is asked for ------------------------------------------------------------------------------------------


def test_a_swap_names_what_where_with_and_which_implementation():
    assert parse_swap("upsample=carafe") == Swap("upsample", "carafe")
    assert parse_swap("conv3x3:body.*=dcnv3[gather]", "cpu") == Swap("conv3x3", "dcnv3", "gather", "body.*")
    assert parse_swap("model.2.*=deconv", "torch", "x.*") == Swap("model.2.*", "deconv", "torch", "x.*")
    assert parse_swap("conv3x3:body.*=dcnv3[gather]").text == "conv3x3:body.*=dcnv3[gather]"


@pytest.mark.parametrize("text", ["carafe", "=carafe", "upsample=", "upsample=carafe[", "a=b=c"])
def test_any_other_form_is_refused(text):
    with pytest.raises(OpbenchError, match=r"--swap .*: expected WHAT=WITH"):
        parse_swap(text)


def test_an_unknown_operator_is_told_the_nearest():
    with pytest.raises(OpbenchError, match=r"unknown operator 'dcnv33'; did you mean 'dcnv3'"):
        parse_swap("conv3x3=dcnv33")
    with pytest.raises(OpbenchError, match=r"unknown implementation 'fold'; did you mean 'unfold'"):
        parse_swap("upsample=carafe[fold]")


def test_a_size_is_height_by_width():
    assert parse_size("480x640") == (480, 640)
    assert parse_size("64") == (64, 64)
    assert parse_size("1x48x64") == (1, 48, 64)
    for text in ("?x640", "-1x64", "1x2x3x4", "", "0x64", "9999999x1", "x"):
        with pytest.raises(OpbenchError, match=r"--size .*expected HEIGHTxWIDTH"):
            parse_size(text)


BAD = {
    "can't run at this size": (
        request("Concatenating", size=(33, 33)),
        "can't be called with .*33, 33.*Sizes of tensors",
    ),
    "nothing matched": (request("Small", "conv3x3:head.*=dcnv3"), "no module matches 'conv3x3' where 'head"),
    "not for this operator": (request("Small", "up=dcnv3"), "up .Upsample. can't be swapped"),
    "on another device": (request("on_meta"), "its parameters are on meta, expected the CPU"),
    "raises when called": (request("raises"), r"calling it raised RuntimeError: no weights here \(.*line \d+: raise"),
    "another argument": (request("Small", arguments=("width=3",)), "calling it raised TypeError"),
    "makes something else": (request("makes_a_list"), "expected a torch.nn.Module or what returns one, got list"),
    "no model": (request("number"), "expected a function or a torch.nn.Module, number is an int"),
    "unknown name": (request("Smal"), "unknown name 'Smal'; did you mean 'Small'"),
    "weights": (CostRequest("yolov8n.pt"), "name the .yaml instead"),
    "no target": (CostRequest("yolov8n"), "expected FILE.py:NAME"),
    "can't be trained": (request("Untrainable", mode="training"), "none of its outputs needs a gradient"),
    "leaves while it is made": (request("leaves"), r"calling it raised SystemExit: 3 \(.*line \d+: sys\.exit"),
    "leaves while it is called": (request("Leaving"), r"can't be called with .*: SystemExit: 5$"),
    "offsets without an end": (request("Small", "conv3x3=dcnv3", spread=float("inf")), "--spread inf: expected"),
    "one swap twice": (request("Small", *["upsample=carafe"] * 2), "--swap upsample=carafe: given twice"),
    "an implementation of another device": (
        request("Small", "upsample=carafe[triton]"),
        r"carafe\[triton\] doesn't run on cpu here",
    ),
    "no such file": (CostRequest("/nowhere/a.py:b"), "no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_says_what_stands_in_the_way(case):
    given, message = BAD[case]
    with pytest.raises(OpbenchError, match=message) as raised:
        measure(given)
    assert "\n" not in str(raised.value)


def test_a_target_that_raises_on_import_is_shown_with_its_line(tmp_path):
    (tmp_path / "broken.py").write_text("import torch\n\nmodel = torch.nn.Conv2d('three', 3, 1)\n")
    with pytest.raises(OpbenchError, match=r"raised TypeError.*broken\.py, line 3: model = torch\.nn\.Conv2d"):
        load_model(f"{tmp_path / 'broken.py'}:model")
    (tmp_path / "misspelt.py").write_text("def model(:\n    pass\n")
    with pytest.raises(OpbenchError, match=r"SyntaxError.*misspelt\.py, line 1: def model\(:"):
        load_model(f"{tmp_path / 'misspelt.py'}:model")


def test_without_a_gpu_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OpbenchError, match="--device cuda: there is no CUDA device here"):
        measure(request("Small", device="cuda"))


def test_a_built_model_is_taken_as_it_is_and_not_changed():
    before = dict(load_model(target("built")).named_modules())
    assert isinstance(before["up"], nn.Upsample)
    found = measure(request("built", "upsample=carafe"))
    assert [change.after for change in found.variants[1].changes] == [CARAFE.__name__]


def test_parameters_are_drawn_from_the_seed():
    first, again, other = (load_model(target("Small"), seed=seed).stem.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class Looking(nn.Module):
    """Asks a tensor what it holds: it can't be called on shapes alone."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.mix(x) if float(x.mean()) > -1 else x


class Remembering(nn.Module):
    """Keeps a tensor of its last call, which no parameter or buffer is."""

    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Conv2d(3, 4, 3, padding=1), None

    def forward(self, x):
        self.last = torch.ones(x.shape[2:]) if self.last is None else self.last
        return self.mix(x) * self.last


@pytest.mark.parametrize(("kind", "counted_on"), [(Looking, {"cpu"}), (Remembering, {"meta"})])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_network_is_counted_by_its_shapes_unless_it_looks_into_its_tensors(monkeypatch, kind, counted_on, mode):
    called_on, by_torch = set(), network_case.by_torch

    def heard(built, formulas):
        found = by_torch(built, formulas)
        called_on.add(built.inputs[0].device.type)
        return found

    monkeypatch.setattr(network_case, "by_torch", heard)
    model, x = kind(), torch.rand(1, 3, 8, 8)
    model(x)
    taught, stock = network_case.count(network_case.built("net", model, x, mode, dtype="float32"))
    # The image itself needs no gradient, so that backward is the weight's alone.
    assert taught.macs == stock.macs == 64 * 27 * 4 * (2 if mode == "training" else 1)
    assert called_on == counted_on
    assert next(model.parameters()).device.type == "cpu"
