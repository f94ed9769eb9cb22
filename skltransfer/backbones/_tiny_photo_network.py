"""The architecture of ``bundled:tiny-photo`` and the input that it expects, and nothing else.

A thin residual network (He et al. 2016) for small photos: a 3x3 stem of stride 2 without max-pooling, then
eight basic blocks of 32 to 256 channels. Plain convolutions, because depthwise ones do not pay on CPUs.
The training recipe (``examples/pretrain_bundled_backbone.py``) and the adapter both build it from here.
"""

import torch
from torch import nn

WIDTHS = (32, 32, 64, 64, 128, 128, 256, 256)
N_SOURCE_CLASSES = 200
INPUT_SIDE = 64
MEAN, STD = (0.480, 0.448, 0.398), (0.277, 0.269, 0.282)  # of Tiny-ImageNet's training photos, in [0, 1]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; halves the map where the width grows."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        stride = 1 if n_in == n_out else 2
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Identity() if stride == 1 else conv_norm(n_in, n_out, kernel_size=1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class TinyPhotoNetwork(nn.Module):
    """Nine stages (``stem``, ``block1`` … ``block8``), global average pooling and the head of 200 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(3, WIDTHS[0], kernel_size=3, stride=2), nn.ReLU())
        for i, (n_in, n_out) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False), start=1):
            self.add_module(f"block{i}", BasicBlock(n_in, n_out))
        self.head = nn.Linear(WIDTHS[-1], N_SOURCE_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, stage in self.named_children():
            x = stage(x.mean((2, 3)) if name == "head" else x)
        return x


def conv_norm(n_in: int, n_out: int, *, kernel_size: int, stride: int) -> nn.Sequential:
    """A convolution that keeps or halves the map, then BatchNorm."""
    conv = nn.Conv2d(n_in, n_out, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out))
