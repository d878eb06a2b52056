"""InternImage T, S and B: stacking rules, published sizes, the official checkpoints' names, what a block computes."""

import pytest
import torch

from opbench.models.closed_form import structure
from opbench.models.internimage import VARIANTS, Block, InternImage, RigidMixing, Variant, internimage
from opbench.operators.dcnv3 import DCNv3
from opbench.operators.dcnv3.cost import COUNTING

TINY = Variant(16, 8, 1, 2, post_norm=True, layer_scale=1e-5)


def hollow(name, **settings):
    with torch.device("meta"):
        return internimage(name, implementation=COUNTING.function, **settings)


@pytest.fixture(scope="module", params=["T", "S", "B"])
def published(request):
    network = hollow(request.param)
    return request.param, network, structure(network, torch.empty(1, 3, 224, 224, device="meta"))


# arXiv 2211.05778, table 2: millions of parameters, and GFLOPs at 224 x 224, by which the paper means 10^9 MACs.
PUBLISHED = {"T": (30, 5), "S": (50, 8), "B": (97, 16)}


def test_parameters_are_within_one_percent_of_the_published(published):
    name, network, found = published
    params = sum(value.numel() for value in network.parameters())
    assert found.params == params
    assert params == pytest.approx(PUBLISHED[name][0] * 1e6, rel=0.01)


def test_macs_round_to_the_published(published):
    name, _, found = published
    assert round(found.macs / 1e9) == PUBLISHED[name][1]


def test_the_closed_form_is_that_of_a_block_times_their_number(published):
    """By hand: DCNv3 (2C^2 + 9C + 27GC and 36C of its core) and 8C^2 of the feed-forward network a pixel."""
    name, _, found = published
    variant = VARIANTS[name]
    by_hand = 0
    for stage, (C, G, depth) in enumerate(
        zip(variant.stage_channels, variant.stage_groups, variant.stage_depths, strict=True)
    ):
        pixels = (56 >> stage) ** 2
        by_hand += depth * pixels * (10 * C * C + 45 * C + 27 * G * C)
        by_hand += 9 * C * 2 * C * pixels // 4 if stage < 3 else 0
    first, last = variant.stage_channels[0], variant.stage_channels[-1]
    by_hand += 9 * 3 * (first // 2) * 112**2 + 9 * (first // 2) * first * 56**2
    by_hand += last * (last * 3 // 2) * 49 + (last * 3 // 2) * 1000
    assert found.macs == by_hand


def test_the_stacking_rules_give_table_1():
    rules = {name: (v.stage_channels, v.stage_groups, v.stage_depths) for name, v in VARIANTS.items()}
    assert rules == {
        "T": ((64, 128, 256, 512), (4, 8, 16, 32), (4, 4, 18, 4)),
        "S": ((80, 160, 320, 640), (5, 10, 20, 40), (4, 4, 21, 4)),
        "B": ((112, 224, 448, 896), (7, 14, 28, 56), (4, 4, 21, 4)),
    }


# Names and shapes in OpenGVLab's classification checkpoints: one of each kind.
OFFICIAL = {
    "patch_embed.conv1.weight": (32, 3, 3, 3),
    "patch_embed.norm1.1.weight": (32,),
    "patch_embed.norm2.1.bias": (64,),
    "levels.0.blocks.0.norm1.0.weight": (64,),
    "levels.0.blocks.3.dcn.dw_conv.0.weight": (64, 1, 3, 3),
    "levels.0.blocks.3.dcn.dw_conv.1.1.weight": (64,),
    "levels.1.blocks.0.dcn.offset.weight": (144, 128),
    "levels.1.blocks.0.dcn.mask.bias": (72,),
    "levels.2.blocks.17.dcn.input_proj.weight": (256, 256),
    "levels.2.blocks.17.mlp.fc1.weight": (1024, 256),
    "levels.2.norm.0.weight": (256,),
    "levels.2.downsample.conv.weight": (512, 256, 3, 3),
    "levels.2.downsample.norm.1.weight": (512,),
    "levels.3.norm.0.bias": (512,),
    "conv_head.0.weight": (768, 512, 1, 1),
    "conv_head.1.0.running_mean": (768,),
    "head.weight": (1000, 768),
}


def test_the_state_dict_has_the_official_names():
    held = {key: tuple(value.shape) for key, value in hollow("T").state_dict().items()}
    assert {key: held.get(key) for key in OFFICIAL} == OFFICIAL
    assert not [key for key in held if "gamma" in key]


def test_post_norm_networks_scale_their_layers_and_have_no_norm_at_a_stages_end():
    held = hollow("S").state_dict()
    assert held["levels.0.blocks.0.gamma1"].shape == (80,)
    assert "levels.0.norm.0.weight" not in held
    start = Block(16, 2, lambda C, G: DCNv3(C, group=G), post_norm=True, layer_scale=1e-5)
    assert torch.all(start.gamma2 == 1e-5)


def test_a_pre_norm_block_normalises_before_its_layers():
    block, x = Block(8, 2, lambda C, G: RigidMixing(C), post_norm=False, layer_scale=None), torch.randn(1, 4, 5, 8)
    mixed = x + block.dcn(block.norm1(x))
    torch.testing.assert_close(block(x), mixed + block.mlp(block.norm2(mixed)))


def test_a_post_norm_block_normalises_and_scales_what_its_layers_give():
    block, x = Block(8, 2, lambda C, G: RigidMixing(C), post_norm=True, layer_scale=0.5), torch.randn(1, 4, 5, 8)
    mixed = x + 0.5 * block.norm1(block.dcn(x))
    torch.testing.assert_close(block(x), mixed + 0.5 * block.norm2(block.mlp(mixed)))


def test_a_network_gives_logits_and_gradients_to_every_parameter():
    torch.manual_seed(0)
    network = InternImage(TINY, 5)
    out = network(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, 5)
    out.square().sum().backward()
    assert all(value.grad is not None for value in network.parameters())


def test_features_are_the_stages_a_detector_builds_on():
    network = InternImage(TINY, 5).eval()
    shapes = [tuple(level.shape) for level in network.features(torch.randn(1, 3, 64, 96))]
    assert shapes == [(1, 16, 16, 24), (1, 32, 8, 12), (1, 64, 4, 6), (1, 128, 2, 3)]


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown InternImage 'XXL' \(known: B, S, T\)"):
        internimage("XXL")
