"""Pictures of the operators: what is drawn is what the module computes; inert, the same bytes, honest errors."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from opbench.cli import app
from opbench.drawings import Shot
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.carafe import show as carafe
from opbench.operators.common.show import Recorder
from opbench.operators.dcnv3 import show as dcnv3
from opbench.operators.dcnv3.module import DCNv3, DCNV3_YoLo
from opbench.report.show import image, svg, weights
from opbench.report.show.picture import drawings, picture
from opbench.schema import OpbenchError

SVG = "{http://www.w3.org/2000/svg}"


def show(*arguments):
    return CliRunner().invoke(app, ["show", *map(str, arguments)])


SCHEMES = {"adown", "gsconv", "hwd", "pconv", "spdconv"}


@pytest.fixture(scope="module", params=sorted(drawings()))
def drawn(request):
    return request.param, picture(request.param, Shot())


# --- what is drawn is what is computed --------------------------------------------------------------------------


def test_a_kernel_is_the_softmax_that_the_module_hands_its_core():
    core = Recorder(carafe.shift_add)
    module = weights.seeded(lambda: carafe.made(core), fresh=False, seed=3)
    shown = image.synthetic()
    found = carafe.kernels(module, core, image.features(shown, 64, 0), shown, [(20, 33)])
    (kernel,) = found.kernels
    assert kernel.parent == (10, 16)
    assert torch.tensor(kernel.weights).shape == (5, 5)
    assert float(np.sum(kernel.weights)) == pytest.approx(1.0)
    # The output pixel is its window under its kernel.
    window = shown[8:13, 14:19].astype(float)
    expected = (window * np.asarray(kernel.weights)[..., None]).sum((0, 1))
    assert np.abs(found.output[20, 33] - expected).max() <= 0.5 + 1e-3


def test_a_fresh_carafe_is_nearly_a_box_and_a_fresh_dcnv3_samples_its_grid():
    core = Recorder(carafe.shift_add)
    shown = image.synthetic()
    fresh = weights.seeded(lambda: carafe.made(core), fresh=True, seed=0)
    (kernel,) = carafe.kernels(fresh, core, image.features(shown, 64, 0), shown, [(20, 20)]).kernels
    assert np.asarray(kernel.weights) == pytest.approx(np.full((5, 5), 0.04), abs=0.005)
    points = Recorder(dcnv3.unsampled)
    module = weights.seeded(lambda: dcnv3.made(points), fresh=True, seed=0)
    (query,) = dcnv3.queries(module, points, image.features(shown, 64, 0), [(10, 20)])
    assert all(point.at == point.base for point in query.points)
    assert [point.weight for point in query.points] == pytest.approx([1 / 9] * 36)
    assert query.points[1].base == (19.0, 10.0), "points run over y within x"


def test_a_sample_lies_where_its_group_s_offset_moves_it_x_before_y():
    points = Recorder(dcnv3.unsampled)
    module = weights.seeded(lambda: dcnv3.made(points), fresh=True, seed=0)
    given = torch.arange(72.0).view(4, 9, 2) / 8  # group, point, (x, y): no two alike
    with torch.no_grad():
        module.offset.bias.copy_(given.flatten())
    (query,) = dcnv3.queries(module, points, image.features(image.synthetic(), 64, 0), [(10, 20)])
    moved = np.array([np.subtract(point.at, point.base) for point in query.points])
    assert moved == pytest.approx(given.view(36, 2).numpy())


def test_offsets_spread_as_asked_and_a_group_s_weights_sum_to_one():
    points = Recorder(dcnv3.unsampled)
    module = weights.seeded(lambda: dcnv3.made(points), fresh=False, seed=0)
    x = image.features(image.synthetic(), 64, 0)
    dcnv3.spread_points(module, x, 2.0, 0)
    found = dcnv3.queries(module, points, x, [(row, row) for row in range(32)])
    moved = np.array([np.subtract(point.at, point.base) for query in found for point in query.points])
    assert np.sqrt((moved**2).mean()) == pytest.approx(2.0, rel=0.15)
    first = [point.weight for point in found[0].points if point.group == 0]
    assert sum(first) == pytest.approx(1.0)


# --- the picture ------------------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_bytes(drawn):
    operator, text = drawn
    assert picture(operator, Shot()) == text
    # A scheme, in which no weights take part, is the same for every seed.
    assert (picture(operator, Shot(seed=1)) == text) == (operator in SCHEMES)


def test_a_picture_is_well_formed_titled_described_and_loads_nothing(drawn):
    _, text = drawn
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert "script" not in text
    assert all(link.startswith("data:image/png;base64,") for link in re.findall(r'href="([^"]+)"', text))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "rect", "text", "image", "circle", "line", "g", "clipPath", "polygon",
    }  # fmt: skip


def test_words_lie_within_the_picture(drawn):
    """A glyph of DejaVu Sans is about 0.62 of its size wide; a label that is cut can't be read."""
    _, text = drawn
    root = ElementTree.fromstring(text)
    width, height = float(root.get("width")), float(root.get("height"))
    for words in root.iter(f"{SVG}text"):
        x, y = float(words.get("x")), float(words.get("y"))
        long = 0.62 * float(words.get("font-size")) * len(words.text)
        start = {"middle": x - long / 2, "end": x - long}.get(words.get("text-anchor"), x)
        assert start >= 0
        assert start + long <= width + 1, words.text
        assert 0 < y < height


def test_units_and_legends_are_named():
    assert "pixels of the feature map" in picture("dcnv3", Shot())
    assert "group 3" in picture("dcnv3", Shot())
    assert "weights in percent" in picture("carafe", Shot())


def test_text_of_a_file_name_stays_text(tmp_path):
    evil = tmp_path / "<script>alert(1)<&\x1b[31m.png"
    evil.write_bytes(svg.png(image.synthetic(8)))
    text = picture("carafe", Shot(image=evil))
    ElementTree.fromstring(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_writer_s_png_is_read_by_pillow_as_it_was(tmp_path):
    shown = image.synthetic(9)
    (tmp_path / "a.png").write_bytes(svg.png(shown))
    assert (np.asarray(Image.open(tmp_path / "a.png")) == shown).all()


# --- files in and out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["svg", "png", "SVG"])
def test_the_ending_decides_the_format(tmp_path, ending):
    done = show("dcnv3", "-o", tmp_path / f"a.{ending}")
    assert done.exit_code == 0, done.output
    start = (tmp_path / f"a.{ending}").read_bytes()[:8]
    assert start.startswith({"svg": b"<svg", "png": b"\x89PNG"}[ending.lower()])


def test_a_photograph_keeps_its_proportions(tmp_path):
    Image.new("RGB", (300, 200), (10, 200, 30)).save(tmp_path / "a.jpg")
    assert image.read(tmp_path / "a.jpg").shape == (21, 32, 3)
    Image.new("RGBA", (1, 500)).save(tmp_path / "a.png")
    assert image.read(tmp_path / "a.png").shape == (32, 1, 3)
    assert "32x1 pixels" in picture("carafe", Shot(image=tmp_path / "a.png"))
    assert "32x1 pixels" in picture("dcnv3", Shot(image=tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("operator", "module", "layer", "said"),
    [
        ("carafe", CARAFE(8, up_kernel=3), "", "3x3 kernel"),
        ("carafe", torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), YoloCARAFE(8)), "", "5x5 kernel"),
        ("carafe", torch.nn.ModuleDict({"a": YoloCARAFE(8), "b": YoloCARAFE(8, k_up=7)}), "b", "7x7 kernel"),
        ("dcnv3", DCNV3_YoLo(16, 16, 3, g=2), "", "2 groups of 9 samples"),
        ("dcnv3", DCNv3(16, group=1, norm_layer="BN", dw_kernel_size=5, center_feature_scale=True), "", "1 groups"),
    ],
)
def test_the_module_is_read_off_a_state_dict(tmp_path, operator, module, layer, said):
    torch.save({"state_dict": module.state_dict()}, tmp_path / "w.pt")
    text = picture(operator, Shot(weights=tmp_path / "w.pt", layer=layer))
    assert said in text
    assert "weights of" in text


def test_a_state_dict_s_values_are_used(tmp_path):
    module = CARAFE(8)
    torch.nn.init.zeros_(module.content_encoder.weight)
    with torch.no_grad():
        module.content_encoder.bias.zero_()[12::25] = 0  # no tap preferred
        module.content_encoder.bias.view(25, 4)[7] = 50.0  # tap 7 of all four children
    torch.save(module.state_dict(), tmp_path / "w.pt")
    core = Recorder(carafe.shift_add)
    loaded = weights.loaded("carafe", carafe.MAKERS, tmp_path / "w.pt", "", core)
    shown = image.synthetic()
    (kernel,) = carafe.kernels(loaded, core, image.features(shown, 8, 0), shown, [(31, 30)]).kernels
    assert np.asarray(kernel.weights).ravel().argmax() == 7
    assert kernel.weights[1][2] == pytest.approx(1.0)


class Payload:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"comp.conv.weight": Payload()}, tmp_path / "w.pt")
    with pytest.raises(OpbenchError, match="expected a state dict"):
        weights.loaded("carafe", carafe.MAKERS, tmp_path / "w.pt", "", Recorder(carafe.shift_add))
    assert "executed" not in capsys.readouterr().out


def faulty(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.pt").write_text("no weights")
    two = torch.nn.ModuleDict({"a": CARAFE(8), "b": CARAFE(8)})
    torch.save(two.state_dict(), tmp_path / "two.pt")
    torch.save({"comp.conv.weight": torch.zeros(8, 8, 1, 1)}, tmp_path / "part.pt")
    torch.save(CARAFE(8, up_group=2).state_dict(), tmp_path / "groups.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(CARAFE(8), tmp_path / "object.pt")
    flat = {**CARAFE(8).state_dict(), "channel_compressor.weight": torch.zeros(3)}
    torch.save(flat, tmp_path / "flat.pt")
    for name, module in (("carafe", CARAFE(8)), ("dcnv3", DCNv3(16, group=1))):
        torch.save({key: value * torch.nan for key, value in module.state_dict().items()}, tmp_path / f"{name}-nan.pt")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["caraf", "-o", "a.svg"], "did you mean 'carafe'"),
        (["carafe", "-o", "a.gif"], "expected a file that ends in .svg or .png"),
        (["carafe", "-o", "a.svg", "--image", "nowhere.png"], "--image nowhere.png"),
        (["carafe", "-o", "a.svg", "--image", "text.png"], "expected a PNG or JPEG file"),
        (["carafe", "-o", "a.svg", "--weights", "nowhere.pt"], "--weights nowhere.pt"),
        (["carafe", "-o", "a.svg", "--weights", "text.pt"], "expected a state dict that torch.save wrote"),
        (["carafe", "-o", "a.svg", "--weights", "list.pt"], "expected a state dict, got list"),
        (["carafe", "-o", "a.svg", "--weights", "two.pt"], "choose one by --layer: a, b"),
        (["carafe", "-o", "a.svg", "--weights", "two.pt", "--layer", "c"], "found: a, b"),
        (["carafe", "-o", "a.svg", "--weights", "part.pt"], "not the parameters of one carafe module"),
        (["carafe", "-o", "a.svg", "--weights", "groups.pt"], "expected 4*k*k encoded channels"),
        (["carafe", "-o", "a.svg", "--weights", "object.pt"], "torch.save(model.state_dict(), FILE) makes one"),
        (["carafe", "-o", "a.svg", "--weights", "flat.pt"], "not the parameters of one carafe module"),
        (["carafe", "-o", "a.svg", "--weights", "carafe-nan.pt"], "kernels hold NaN or infinity"),
        (["dcnv3", "-o", "a.svg", "--weights", "dcnv3-nan.pt"], "offsets hold NaN or infinity"),
        (["dcnv3", "-o", "a.svg", "--spread", "inf"], "offsets hold NaN or infinity"),
        (["dcnv3", "-o", "a.svg", "--weights", "part.pt"], "no dcnv3 in it"),
        (["dcnv3", "-o", "a.svg", "--at", "3"], "expected ROW,COLUMN"),
        (["dcnv3", "-o", "a.svg", "--at", "3,99"], "rows 0 to 31 and columns 0 to 31"),
        (["dcnv3", "-o", "a.svg", "--fresh", "--weights", "part.pt"], "choose one"),
    ],
)
def test_wrong_usage_is_one_sentence_and_writes_nothing(arguments, said, tmp_path, monkeypatch):
    faulty(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = show(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.svg").exists()
