"""What else people do with a network: prune and norm its weights, keep activations, fuse it, ask what is left of it."""

import copy
import dataclasses
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from opbench.models import swap
from opbench.models.ultralytics_block import UnfusedConv
from opbench.models.ultralytics_package import import_ultralytics
from opbench.operators.carafe import YoloCARAFE
from opbench.schema import OpbenchError


def mixing():
    return nn.Conv2d(8, 8, 3, padding=1)


def pruned():
    return prune.l1_unstructured(mixing(), "weight", 0.5)


def old(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return norm(mixing())


class Keeping(nn.Module):
    """Keeps what it made, gradients and all, in a list of its own."""

    def __init__(self):
        super().__init__()
        self.conv = mixing()
        self.seen = []

    def forward(self, x):
        self.seen.append({"last": self.conv(x)})
        return self.seen[-1]["last"]


@dataclasses.dataclass
class Found:
    image: torch.Tensor
    more: dict


class Telling(nn.Module):
    def __init__(self, tell):
        super().__init__()
        self.body, self.tell = network(mixing()), tell

    def forward(self, x):
        return self.tell(self.body(x))


def network(middle):
    return nn.Sequential(nn.Conv2d(3, 8, 1), middle, nn.Upsample(scale_factor=2))


def shared():
    one = mixing()
    return nn.Sequential(nn.Conv2d(3, 8, 1), one, one, nn.Upsample(scale_factor=2))


NETWORKS = {
    "pruned": lambda: network(pruned()),
    "weight norm": lambda: network(old(weight_norm)),
    "spectral norm": lambda: network(old(spectral_norm)),
    "weight norm, parametrized": lambda: network(parametrizations.weight_norm(mixing())),
    "spectral norm, parametrized": lambda: network(parametrizations.spectral_norm(mixing())),
    "orthogonal": lambda: network(parametrizations.orthogonal(mixing())),
    "keeps an activation": lambda: network(Keeping()),
    "shared": shared,
    "a dataclass comes out": lambda: Telling(lambda y: Found(y, {"twice": 2 * y})),
    "a mapping comes out": lambda: Telling(lambda y: {"image": y, "more": [y.mean()]}),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("what", "with_"), [("conv3x3", "dcnv3"), (nn.Upsample, YoloCARAFE)])
def test_a_network_that_was_called_is_swapped_and_trains_on(name, what, with_):
    torch.manual_seed(0)
    model, x = NETWORKS[name](), torch.rand(2, 3, 8, 8)
    model(x)
    assert len(swap(model, what, with_)) == 1
    out = model(x)
    image = out.image if isinstance(out, Found) else out["image"] if isinstance(out, dict) else out
    assert image.shape == (2, 8, 16, 16)
    image.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_person_s_own_hook_is_not_dropped():
    model = network(pruned())
    model[1].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(OpbenchError, match="hooks"):
        swap(model, "conv3x3", "dcnv3")


def test_a_change_says_what_is_left_of_the_weights():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), mixing(), nn.Upsample(scale_factor=2))
    before = {name: value.clone() for name, value in model[0].state_dict().items()}
    (mixed,), (up,) = swap(model, "conv3x3", "dcnv3"), swap(model, nn.Upsample, "bilinear")
    new = sum(parameter.numel() for parameter in model[1].parameters())
    assert str(mixed) == (
        f"1: Conv2d -> ChannelsFirstDCNv3; its 584 parameters are gone, the {new:,} new ones start untrained"
    )
    assert str(up).endswith("it had no parameters, the new one has none")
    assert all(torch.equal(before[name], value) for name, value in model[0].state_dict().items())


# --- ultralytics -------------------------------------------------------------------------------------------------

YOLO = """
nc: 2
scales:
  n: [0.33, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C2f, [64, True]]
  - [-1, 1, Conv, [128, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 1], 1, Concat, [1]]
  - [-1, 1, C2f, [64]]
  - [[5], 1, Detect, [nc]]
"""


@pytest.fixture
def yolo(tasks, tmp_path):
    (tmp_path / "yolov8n-small.yaml").write_text(YOLO)
    torch.manual_seed(0)
    return tasks.DetectionModel(tmp_path / "yolov8n-small.yaml", verbose=False)


def test_a_yolo_with_swapped_convolutions_is_fused_and_says_the_same(yolo):
    x = torch.rand(1, 3, 64, 64)
    names = set(yolo.state_dict())
    changes = swap(yolo, "conv3x3", "dcnv3")
    assert changes
    yolo.eval()
    expected = yolo(x)[0]
    fused = copy.deepcopy(yolo).fuse(verbose=False)
    assert torch.allclose(fused(x)[0], expected, atol=1e-4)
    assert torch.equal(pickle.loads(pickle.dumps(yolo))(x)[0], expected)
    blocks = [module for module in yolo.modules() if isinstance(module, UnfusedConv)]
    assert len(blocks) == len(changes)
    assert not any(hasattr(module, "bn") for module in fused.modules() if type(module).__name__ == "Conv")
    gone = {name for name in names if any(name.startswith(f"{change.name}.") for change in changes)}
    assert names - gone <= set(yolo.state_dict()), "all other weights keep their names"


def test_a_swap_that_fails_leaves_ultralytics_blocks_as_they_were(yolo):
    conv = import_ultralytics("ultralytics.nn.modules.conv").Conv

    class Narrow(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x[:, :, 1:]

    with pytest.raises(OpbenchError):
        swap(yolo, "conv3x3", Narrow)
    assert not any(isinstance(module, UnfusedConv) for module in yolo.modules())
    assert sum(type(module) is conv for module in yolo.modules()) > 5
    yolo.eval().fuse(verbose=False)


def test_what_is_swapped_in_by_name_chooses_its_core_when_it_is_called():
    """So it goes along to another device, and is exported by a core that can be."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), mixing())
    (change,) = swap(model, "conv3x3", "dcnv2")
    assert (change.after, model[1].implementation) == ("DCNv2", "auto")
    model = nn.Sequential(nn.Conv2d(3, 8, 1), mixing())
    swap(model, "conv3x3", "dcnv2", implementation="gather")
    assert model[1].implementation != "auto"
