"""Students as LiteRT and ExecuTorch files for 5 s of audio, from torch: what benchmarks/c_forms.py times as --phone.

    pip install litert-torch executorch
    python benchmarks/phone_forms.py FOLDER

The converters take no complex numbers, so the DFT of micro is a matrix here, in place of its FFT. ExecuTorch computes
with XNNPACK, as on a phone; its portable kernels are a hundred times slower.
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn

from wav2small.network import reference
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.frontend import dft_kernel
from wav2small.network.weights import resolve
from wav2small.train.students import from_arrays


class Emotion(nn.Module):
    """A student that answers its emotion alone; its level is a mean over frames that a convolution takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        if not net.network.stores_frontend:
            kernel = torch.from_numpy(dft_kernel(net.network.frontend)).float()
            self.register_buffer("kernel", kernel.flatten(0, 1)[:, None])
            count = torch.arange(1, net.network.frontend.num_frames(5 * SAMPLING_RATE) + 1)
            self.register_buffer("count", count.clamp_max(net.network.level_frames).float())

    def log_mel(self, signal: Tensor) -> Tensor:
        config = self.net.network
        if config.stores_frontend:
            return self.net.log_mel(signal)
        spectrum = nn.functional.conv1d(signal[:, None], self.kernel, stride=config.frontend.hop_length).square()
        real, imag = spectrum.chunk(2, 1)
        power = (real + imag).transpose(1, 2) @ self.net.mel
        padded = nn.functional.pad(power.sum(2), (config.level_frames - 1, 0))[:, None]
        sums = nn.functional.conv1d(padded, torch.ones(1, 1, config.level_frames))[:, 0]
        level = sums / self.count + config.frontend.variance_floor
        return 10 * (power / level[:, :, None]).clamp_min(config.frontend.amin).log10()

    def forward(self, signal: Tensor) -> Tensor:
        """(1, 80000) to (1, 3)."""
        return self.net.features_to_emotion(self.log_mel(signal))[0]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("wav2small", "micro"):
        arrays, _, config = reference.load_student(resolve(name, suffix=".safetensors"))
        net = Emotion(from_arrays(arrays, config)).eval()
        signal = (torch.zeros(1, 5 * SAMPLING_RATE),)
        litert_torch.convert(net, signal).export(str(folder / f"{name}.tflite"))
        lowered = to_edge_transform_and_lower(torch.export.export(net, signal), partitioner=[XnnpackPartitioner()])
        (folder / f"{name}.pte").write_bytes(lowered.to_executorch().buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
