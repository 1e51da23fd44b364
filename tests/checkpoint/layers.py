"""A network with the layers whose numbers reach native code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit.datasets.splits import InputSpec

CONTRACT = InputSpec((3, 8, 8), "unit", None, None, ("a", "b"))
"""Its inputs."""


class Many(nn.Module):
    """Images of 3 x 8 x 8 to two logits, through attention, recurrent layers, pools and nn.Fold."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(1)
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.pool = nn.MaxPool2d(2)
        self.larger = nn.Upsample(scale_factor=2.0)
        self.fold = nn.Fold((5, 5), 2)
        self.mean = nn.AdaptiveAvgPool2d(4)
        self.flat = nn.Flatten(2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.lstm = nn.LSTM(16, 6, batch_first=True)
        self.gru = nn.GRU(6, 4, batch_first=True, bidirectional=True)
        self.layer_norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.larger(self.pool(self.up(self.depthwise(self.norm(self.stem(self.pad(x))).relu()))))
        x = self.flat(self.mean(x))
        x = x + self.attention(x, x, x)[0]
        x = torch.cat([x, self.flat(self.mean(self.fold(x)))], 1)
        return self.head(self.layer_norm(self.gru(self.lstm(x)[0])[0].mean(1)))
