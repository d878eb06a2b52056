"""The pictures of operators that halve an image show what their definitions compute."""

import numpy as np
import pytest
import torch

from opbench.drawings import Shot
from opbench.operators.adown import show as adown
from opbench.operators.carafe_downsample import CARAFEDownsample
from opbench.operators.carafe_downsample import show as carafe_downsample
from opbench.operators.common.show import Recorder
from opbench.operators.hwd import show as hwd
from opbench.operators.spdconv import show as spdconv
from opbench.report.show import image, images, svg
from opbench.schema import OpbenchError


def test_a_slice_s_number_stands_on_the_pixels_that_it_has():
    origins = spdconv.origins()
    assert origins[:2, :2].tolist() == [[0, 2], [1, 3]]
    assert (origins == np.tile([[0, 2], [1, 3]], (4, 4))).all()


@pytest.mark.parametrize("show", [hwd, spdconv, adown, carafe_downsample])
def test_a_picture_holds_an_image_for_each_name_and_the_same_bytes_each_time(show):
    shown = image.synthetic()
    first, second = (svg.document(show.drawn(Shot(), shown)) for _ in range(2))
    assert first == second
    assert first.count("<image") == {hwd: 4, spdconv: 5, adown: 3, carafe_downsample: 2}[show]


def test_flat_places_of_a_difference_are_grey():
    flat = np.full((8, 8, 3), 200, dtype="uint8")
    drawn = hwd.drawn(Shot(), flat).parts
    grey = svg.raster(np.full((4, 4, 3), 128, dtype="uint8"), 0, 0, images.SIDE // 4)
    data = grey.partition("base64,")[2]
    assert sum(data in part for part in drawn) == 3


def test_a_kernel_adds_up_the_window_around_every_second_pixel():
    shown = image.synthetic()
    core = Recorder(carafe_downsample.shift_add)
    module = CARAFEDownsample(8, implementation=core).eval()
    with torch.no_grad():
        module(image.features(shown, 8, 0))
    drawn = carafe_downsample.drawn(Shot(at=("5,6",)), shown)
    assert any("above input pixel (10, 12)" in part for part in drawn.parts)
    assert "CARAFE++ downsampling" in drawn.title


def test_weights_of_another_kernel_are_refused_in_a_sentence(tmp_path):
    state = CARAFEDownsample(8).state_dict()
    torch.save(state, tmp_path / "right.pt")
    drawn = carafe_downsample.drawn(Shot(weights=tmp_path / "right.pt"), image.synthetic())
    assert any("weights of right.pt" in part for part in drawn.parts)
    state["content_encoder.weight"] = state["content_encoder.weight"][:24]
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(OpbenchError, match=r"expected k\*k encoded channels .* got 24"):
        carafe_downsample.drawn(Shot(weights=tmp_path / "wrong.pt"), image.synthetic())
