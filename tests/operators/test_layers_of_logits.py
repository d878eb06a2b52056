"""Layers whose core has a kernel that takes logits give it theirs."""

import pytest
import torch

from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.dcnv3 import DCNv3


@pytest.mark.parametrize("make", [CARAFE, YoloCARAFE, DCNv3], ids=lambda make: make.__name__)
def test_modules_give_their_logits_to_the_kernel_and_compute_the_same(make):
    torch.manual_seed(0)
    options = {"group": 2} if make is DCNv3 else {}
    fast = make(16, **options, implementation="cpu").eval()
    plain = make(16, **options, implementation="gather" if make is DCNv3 else "unfold").eval()
    for parameter in fast.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(1, 7, 9, 16) if make is DCNv3 else torch.randn(1, 16, 7, 9)
    with torch.profiler.profile() as profile:
        found = fast(x)
    called = {event.key for event in profile.key_averages() if event.key.startswith("opbench::")}
    assert called == {"opbench::dcnv3_cpu_logits" if make is DCNv3 else "opbench::carafe_cpu_logits"}
    torch.testing.assert_close(found, plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(fast(x).float(), found, atol=0.05, rtol=0.05)
