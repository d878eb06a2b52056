"""Every Triton kernel once, on a few pixels: what a memory checker runs. `python small_calls.py`."""

import sys

import torch

from opbench.kernels.triton import launch as triton_launch
from opbench.kernels.triton.carafe import carafe_triton, carafe_triton_logits
from opbench.kernels.triton.dcnv3 import dcnv3_triton, dcnv3_triton_logits
from opbench.kernels.triton.dcnv4 import dcnv4_triton, dcnv4_triton_logits
from opbench.kernels.triton.dysample import dysample_triton

# No timing of candidates: a checked kernel takes a thousand times as long.
triton_launch._choice = lambda kernel, candidates, *_: candidates[0]


def differentiated(core, *tensors, **call):
    tensors = [tensor.requires_grad_() for tensor in tensors]
    core(*tensors, **call).sum().backward()


def main():
    for dtype in (torch.float32, torch.float16):
        like = {"device": "cuda", "dtype": dtype}
        for format in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, 6, 5, 7, **like).contiguous(memory_format=format)
            call = {"kernel_size": 3, "group_size": 2, "scale_factor": 2}
            differentiated(carafe_triton, x, torch.randn(1, 18, 10, 14, **like), **call)
            differentiated(carafe_triton_logits, x.detach(), torch.randn(1, 72, 5, 7, **like), **call)
        x, mask = torch.randn(1, 5, 7, 12, **like), torch.randn(1, 5, 7, 18, **like)
        offset = torch.randn(1, 5, 7, 36, **like) * 4
        offset[:, 0] = float("inf")
        offset[:, 1] = float("nan")
        call = {"kernel_size": 3, "pad": 1, "group": 2}
        for deterministic in (False, True):
            for core in (dcnv3_triton, dcnv3_triton_logits):
                tensors = (tensor.clone() for tensor in (x, offset, mask))
                differentiated(core, *tensors, **call, deterministic=deterministic)
            packed = torch.cat((offset.unflatten(3, (2, 18)), mask.unflatten(3, (2, 9))), 4).flatten(3)
            for core in (dcnv4_triton, dcnv4_triton_logits):
                differentiated(core, x.clone(), packed.clone(), **call, deterministic=deterministic)
            for format in (torch.contiguous_format, torch.channels_last):
                image = torch.randn(1, 6, 5, 7, **like).contiguous(memory_format=format)
                moves = torch.randn(1, 16, 5, 7, device="cuda") * 4
                moves[:, 0], moves[:, 1] = float("inf"), float("nan")
                differentiated(dysample_triton, image, moves, scale=2, groups=2, deterministic=deterministic)
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
