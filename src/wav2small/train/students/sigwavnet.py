"""SigWavNet: a learnable wavelet transform of the signal at 8 kHz, and a recurrent block with attention for each band.

Departures: the signal has zero mean and unit variance by itself, not by statistics of the training set; recurrent
states start at zero for each clip; the normalisation and rectification of the outputs are left out, because they remove
the level and sign of arousal, dominance and valence.

Source: Nfissi et al. 2025, arXiv:2502.00310, and its code (BSD-3-Clause), of which no line is used.
"""

from __future__ import annotations

from math import comb

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import FRONTEND, OUTPUTS
from wav2small.train.students.base import StudentNet

TAPS = 20
"""Length of the wavelet kernels, that of db10."""
HALF_BAND_TAPS = 63
"""Length of the filter before the sampling rate is halved."""


class Bands(nn.Module):
    """A wavelet transform with one learnt kernel a level, which begins as that of Daubechies with ten moments.

    Args:
        levels: number of high bands

    Source: section III of arXiv:2502.00310; "PerLayer" in its code.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        start = torch.from_numpy(daubechies(TAPS // 2).astype(np.float32))
        self.kernels = nn.Parameter(start.repeat(levels, 1))
        self.sign: Tensor
        self.register_buffer("sign", torch.tensor([1.0, -1.0]).repeat(TAPS // 2), persistent=False)
        self.positive, self.negative = (
            nn.Parameter(torch.full((levels,), 0.5)),
            nn.Parameter(torch.full((levels,), 0.5)),
        )
        self.slope = nn.Parameter(torch.full((levels,), 10.0))

    def forward(self, signal: Tensor) -> list[Tensor]:
        """(batch, 1, samples) -> the last low band, then the gated high bands from the first level, (batch, 1, n)."""
        low, high = signal, []
        for level, kernel in enumerate(self.kernels):
            detail = functional.conv1d(low, (kernel.flip(0) * self.sign)[None, None], stride=2)
            high.append(gate(detail, self.positive[level], self.negative[level], self.slope[level]))
            low = functional.conv1d(low, kernel[None, None], stride=2)
        return [low, *high]


def gate(band: Tensor, positive: Tensor, negative: Tensor, slope: Tensor) -> Tensor:
    """Asymmetric soft threshold: values between -negative and positive are reduced, the shape stays.

    Source: "LAHT" in arXiv:2502.00310.
    """
    return band * (torch.sigmoid(slope * (band - positive)) + torch.sigmoid(-slope * (band + negative)))


class Block(nn.Module):
    """One band to a vector: convolutions, attention over time, recurrent layers, and attention to their last state.

    Args:
        channels: of the first convolution; the second has twice as many
        hidden: units of a recurrent layer in each direction
        layers: number of recurrent layers
    """

    def __init__(self, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv1 = nn.Conv1d(1, channels, 7, stride=4, dilation=3)
        self.conv2 = nn.Conv1d(channels, wide, 5, stride=4, dilation=2)
        self.context = nn.Conv1d(wide, wide, 7, padding=3)
        self.score = nn.Conv1d(wide, 1, 1, bias=False)
        widths = [wide, *[2 * hidden] * (layers - 1)]
        self.recurrent = nn.Sequential(*(Recurrent(width, hidden) for width in widths))
        self.query = nn.Linear(2 * hidden, 2 * hidden, bias=False)
        self.out = nn.Linear(4 * hidden, 2 * hidden, bias=False)

    def forward(self, band: Tensor) -> Tensor:
        """(batch, 1, n) -> (batch, 2 hidden)."""
        local = rectified(self.conv2(rectified(self.conv1(band))))
        return self.attend(self.recurrent(self.spatial(local).transpose(1, 2)))

    def spatial(self, local: Tensor) -> Tensor:
        """Adds the weighted sum over time of the channels to each of their values: (batch, wide, n), the same."""
        weight = self.score(local + rectified(self.context(local))).softmax(2)
        return functional.leaky_relu(local + (weight * local).sum(2, keepdim=True))

    def attend(self, states: Tensor) -> Tensor:
        """Recurrent states weighted by their product with the last one: (batch, n, 2 hidden) -> (batch, 2 hidden)."""
        last = states[:, -1]
        weight = (self.query(states) @ last[:, :, None]).softmax(1)
        context = (weight * states).sum(1)
        attended: Tensor = torch.tanh(self.out(torch.cat([context, last], 1)))
        return attended


class Recurrent(nn.GRU):
    """One bidirectional recurrent layer. In an export it is one operator of ONNX; torch would unroll its steps.

    Args:
        width: size of the input
        hidden: units in each direction
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, states: Tensor) -> Tensor:  # type: ignore[override]
        """(batch, n, width) -> (batch, n, 2 hidden)."""
        if torch.compiler.is_exporting():
            return self._operator(states)
        output: Tensor = super().forward(states)[0]
        return output

    def _operator(self, states: Tensor) -> Tensor:
        if not hasattr(torch.onnx, "ops"):
            raise RuntimeError("recurrent layers need torch 2.8 or later")
        ordered = {name: self._in_onnx_order(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        bias = torch.cat([ordered["bias_ih"], ordered["bias_hh"]], 1)
        output: Tensor = torch.onnx.ops.symbolic(
            "GRU",
            (states.transpose(0, 1), ordered["weight_ih"], ordered["weight_hh"], bias),
            {"hidden_size": self.hidden_size, "direction": "bidirectional", "linear_before_reset": 1},
            dtype=states.dtype,
            shape=(states.shape[1], 2, states.shape[0], self.hidden_size),
        )
        return output.permute(2, 0, 1, 3).flatten(2)

    def _in_onnx_order(self, name: str) -> Tensor:
        """An array of both directions with the gates update, reset, new: torch has reset, update, new."""
        both = [getattr(self, f"{name}_l0{suffix}") for suffix in ("", "_reverse")]
        gates = [array.chunk(3) for array in both]
        return torch.stack([torch.cat([update, reset, new]) for reset, update, new in gates])


def rectified(hidden: Tensor) -> Tensor:
    """Zero mean and unit variance over time, and a leaky ReLU: (batch, channels, n), the same."""
    centred = hidden - hidden.mean(2, keepdim=True)
    return functional.leaky_relu(centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt())


class SigWavNet(StudentNet):
    """The network.

    Args:
        dropout: dropout before the output layer
        levels: of the wavelet transform
        channels: of the first convolution of a block
        hidden: units of a recurrent layer in each direction
        layers: number of recurrent layers of a block
    """

    normalisation = "utterance"

    def __init__(
        self, dropout: float = 0.0, *, levels: int = 5, channels: int = 128, hidden: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        self.half_band: Tensor
        self.register_buffer(
            "half_band", torch.from_numpy(half_band(HALF_BAND_TAPS).astype(np.float32)), persistent=False
        )
        self.bands = Bands(levels)
        self.blocks = nn.ModuleList(Block(channels, hidden, layers) for _ in range(levels + 1))
        self.weight = nn.Parameter(torch.ones(levels + 1))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv1d(levels + 1, len(OUTPUTS), 5)
        self.embedding_size, self.min_length = (levels + 1) * 2 * hidden, 2 * shortest(levels)

    def log_mel(self, signal: Tensor) -> Tensor:
        """The features are samples: the signal at 8 kHz with zero mean and unit variance, (batch, samples / 2, 1)."""
        with torch.autocast(signal.device.type, enabled=False):
            padding = HALF_BAND_TAPS // 2
            low = functional.conv1d(signal.float()[:, None], self.half_band[None, None], stride=2, padding=padding)
            centred = low - low.mean(2, keepdim=True)
            variance = centred.square().mean(2, keepdim=True)
            return (centred / (variance + FRONTEND.variance_floor).sqrt()).transpose(1, 2)

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Signal at 8 kHz, shape=(batch, samples, 1), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        bands = self.bands(log_mel.transpose(1, 2))
        rows = torch.stack([block(band) for block, band in zip(self.blocks, bands, strict=True)], 1).float()
        with torch.autocast(rows.device.type, enabled=False):
            rows = rows * self.weight[:, None]
            emotion: Tensor = self.out(self.dropout(rows)).mean(2)
            return emotion, rows.flatten(1)


def shortest(levels: int) -> int:
    """Samples at 8 kHz of which every block still gets two steps.

    Examples:
        >>> shortest(5)
        2702
    """
    needed = (2 - 1) * 4 + 2 * (5 - 1) + 1  # steps before the second convolution
    needed = (needed - 1) * 4 + 3 * (7 - 1) + 1  # and before the first
    for _ in range(levels):
        needed = (needed - 1) * 2 + TAPS
    return needed


def half_band(taps: int) -> np.ndarray:
    """Low-pass filter at a quarter of the sampling rate, a sinc under a Kaiser window, shape=(taps,)."""
    time = np.arange(taps) - taps // 2
    kernel = np.sinc(0.48 * time) * np.kaiser(taps, 8.0)
    return np.asarray(kernel / kernel.sum())


def daubechies(moments: int) -> np.ndarray:
    """Low-pass decomposition filter of Daubechies with vanishing moments, shape=(2 moments,).

    Source: Daubechies 1988, Communications on Pure and Applied Mathematics 41:909: of the roots of the trigonometric
    polynomial, those inside the unit circle.

    Examples:
        >>> daubechies(1).round(4)
        array([0.7071, 0.7071])
    """
    roots = np.roots([comb(moments - 1 + power, power) for power in range(moments)][::-1])
    pairs = np.array([np.roots([1, 4 * root - 2, 1]) for root in roots]).reshape(-1)
    kernel = np.real(np.poly([*pairs[np.abs(pairs) < 1], *[-1] * moments]))
    return np.asarray(kernel[::-1] * np.sqrt(2) / kernel.sum())


def sigwavnet(dropout: float = 0.0) -> SigWavNet:
    """SigWavNet with five levels."""
    return SigWavNet(dropout)


def sigwavnet_s(dropout: float = 0.0) -> SigWavNet:
    """SigWavNet with five levels, a quarter of the channels and units, and one recurrent layer, for CPUs."""
    return SigWavNet(dropout, channels=32, hidden=16, layers=1)
