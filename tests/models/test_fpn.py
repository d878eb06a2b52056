"""FPN and FPN-CARAFE: the top-down path, the closed form, mmdetection's names, and what is refused."""

import pytest
import torch

from opbench.models.closed_form import structure
from opbench.models.fpn import FPN, RESNET50, pyramid
from opbench.operators.carafe.cost import COUNTING


def stages(channels=RESNET50, H=32, W=64, device=None):
    return [torch.randn(1, C, H >> level, W >> level, device=device) for level, C in enumerate(channels)]


def closed_form(carafe):
    """Laterals 3840*256, four 3x3 convolutions, and three CARAFEs of 74,148 parameters (the paper's table)."""
    params = sum(RESNET50) * 256 + 4 * 256 + 4 * (9 * 256 * 256 + 256) + carafe * 3 * 74_148
    macs = 0
    for level, C in enumerate(RESNET50):
        pixels = (32 >> level) * (64 >> level)
        macs += (C * 256 + 9 * 256 * 256) * pixels
        if carafe and level:
            macs += (256 * 64 + 9 * 64 * 100 + 100 * 256) * pixels
    return params, macs


@pytest.mark.parametrize("carafe", [False, True])
def test_parameters_and_macs_are_the_closed_form(carafe):
    with torch.device("meta"):
        network = FPN(carafe=carafe, implementation=COUNTING.function)
    found = structure(network, *stages(device="meta"))
    assert (found.params, found.macs) == closed_form(carafe)
    assert found.params == sum(value.numel() for value in network.parameters())


def test_every_level_sums_what_is_above_it():
    torch.manual_seed(0)
    network = FPN((3, 4, 5), 8).double()
    c3, c4, c5 = (value.double() for value in stages((3, 4, 5), 8, 8))
    lateral3, lateral4, lateral5 = (conv(c) for conv, c in zip(network.lateral_convs, (c3, c4, c5), strict=True))

    def up(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    lateral4 = lateral4 + up(lateral5)
    lateral3 = lateral3 + up(lateral4)
    expected = [conv(x) for conv, x in zip(network.fpn_convs, (lateral3, lateral4, lateral5), strict=True)]
    for got, wanted in zip(network(c3, c4, c5), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_levels_join_finest_first():
    levels = (torch.zeros(1, 2, 2, 4), torch.ones(1, 2, 1, 2))
    assert pyramid(levels)[0, 0].tolist() == [0] * 8 + [1] * 2


def test_the_names_are_mmdetections():
    with torch.device("meta"):
        held = {key: tuple(value.shape) for key, value in FPN(carafe=True).state_dict().items()}
    assert held["lateral_convs.3.conv.weight"] == (256, 2048, 1, 1)
    assert held["fpn_convs.0.conv.bias"] == (256,)
    assert held["upsample_modules.2.channel_compressor.weight"] == (64, 256, 1, 1)
    assert held["upsample_modules.2.content_encoder.weight"] == (100, 64, 3, 3)


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected stages of \(3, 4\) channels, got shapes"):
        FPN((3, 4), 8)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"half the size .* multiples of 32"):
        FPN((3, 4), 8)(torch.zeros(1, 3, 7, 8), torch.zeros(1, 4, 3, 4))
