"""CARAFE as the study `upsample` trains it, which is what `opbench show carafe` shows: weights, and how they were made.

    python -m opbench.operators.carafe.show.trained     # writes trained.pt anew: 250 steps on one thread

The network restores an image of one channel from its 2 x 2 means (`opbench.study.upsampling`). It is trained on images
generated from a seed, at the learning rate that the committed study chose, and kept in half precision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opbench.operators.carafe.module import CARAFE
from opbench.study.training import TrainingJob, build, examples, one_thread, rate_at, take_step
from opbench.study.upsampling import CHANNELS, STUDY, Restorer

FILE = Path(__file__).with_name("trained.pt")
JOB = TrainingJob(STUDY.name, "carafe", "scored", 0.01, 0, STUDY.steps, "generated", quick=False)
ABOUT = f"weights trained for {STUDY.steps} steps to restore images at twice their size (study {STUDY.name})"


def restorer(core: Callable[..., Tensor]) -> nn.Module:
    """The trained network around a core: x (1, 1, H, W) in [0, 1] -> (1, 1, 2H, 2W)."""
    dims = STUDY.slot_dims
    network = Restorer(
        lambda: CARAFE(
            CHANNELS,
            up_kernel=dims["k_up"],
            encoder_kernel=dims["k_enc"],
            compressed_channels=dims["c_mid"],
            implementation=core,
        )
    )
    held = torch.load(FILE, weights_only=True)
    network.load_state_dict({name: value.float() for name, value in held.items()})
    return network.eval()


def grey(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) of 0 to 255 as the network is given it: (1, 1, H, W) in [0, 1]."""
    return torch.from_numpy(image.astype("float32").mean(-1) / 255)[None, None]


def train() -> dict[str, Tensor]:
    """The state dict after the training, in half precision."""
    data = examples(JOB.study, JOB.images, JOB.quick)
    with one_thread():
        network = build(STUDY, JOB.contender, JOB.seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=JOB.rate)
        for step in range(JOB.steps):
            batch = data.batch(np.random.default_rng([JOB.seed, step]), STUDY.batch)
            take_step(STUDY, network, optimizer, batch, rate_at(JOB, step))
    return {name: value.half() for name, value in network.state_dict().items()}


if __name__ == "__main__":
    torch.save(train(), FILE)
