"""Compare variants of ``micro``, one difference at a time, on the dev speakers of the open corpora.

    python benchmarks/micro_forms.py RUN --steps 800

RUN is a folder that recipes/open.sh filled. All forms use the same batches. One line per form: parameters, million
multiply-adds per second of audio after the log-mel, CCC of each dimension against the teacher.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from factors import trained
from wav2small.network.config import Network
from wav2small.network.micro import MICRO, micro
from wav2small.tables.manifest import read_manifest
from wav2small.train.clips import Clips
from wav2small.train.config import TrainConfig
from wav2small.train.students.layered import LayeredStudent


class Squeezed(LayeredStudent):
    """Causal squeeze and excitation: each channel is scaled depending on the running mean of all channels."""

    def __init__(self, network: Network, dropout: float) -> None:
        super().__init__(network, dropout)
        width = network.token_size // 4
        self.excite = nn.Sequential(
            nn.Linear(network.token_size, width), nn.ReLU(), nn.Linear(width, network.token_size)
        )

    def tokens(self, log_mel: Tensor) -> Tensor:
        tokens = super().tokens(log_mel)
        counts = torch.arange(1, tokens.shape[1] + 1)[:, None]
        return tokens * self.excite(tokens.cumsum(1) / counts).sigmoid()


class Recurrent(LayeredStudent):
    """A GRU behind the convolutions."""

    def __init__(self, network: Network, dropout: float) -> None:
        super().__init__(network, dropout)
        self.gru = nn.GRU(network.token_size, network.token_size, batch_first=True)

    def tokens(self, log_mel: Tensor) -> Tensor:
        return self.gru(super().tokens(log_mel))[0]


class Averaged(LayeredStudent):
    """The plain mean over time as the pooling."""

    def __init__(self, network: Network, dropout: float) -> None:
        super().__init__(network, dropout)
        nn.init.zeros_(self.sof.weight).requires_grad_(False)


def ours(**change: object) -> Callable[[float], LayeredStudent]:
    return lambda dropout: LayeredStudent(micro(**change), dropout)


def frontend_with(**change: float) -> Callable[[float], LayeredStudent]:
    return ours(frontend=replace(MICRO.frontend, **change))


FORMS: dict[str, Callable[[float], LayeredStudent]] = {
    "as it ships": ours(),
    "48 channels": ours(channels=48),
    "80 channels": ours(channels=80),
    "kernels of 3": ours(kernel=3),
    "kernels of 7": ours(kernel=7),
    "no stride": ours(stride=1),
    "stride 3": ours(stride=3),
    "3 blocks": ours(dilations=(1, 2, 4)),
    "7 blocks": ours(dilations=(1, 1, 1, 2, 2, 2, 4)),
    "64 pooled": ours(pooled=64),
    "256 pooled": ours(pooled=256),
    "mean as pooling": lambda dropout: Averaged(MICRO, dropout),
    "squeeze and excitation": lambda dropout: Squeezed(MICRO, dropout),
    "3 blocks and a GRU": lambda dropout: Recurrent(micro(dilations=(1, 2, 4)), dropout),
    "26 mels": frontend_with(n_mels=26),
    "64 mels": frontend_with(n_mels=64),
    "windows of 32 ms": frontend_with(win_length=512),
    "hop of 16 ms": frontend_with(hop_length=256),
    "level of 1 s": lambda dropout: LayeredStudent(replace(MICRO, level_dur=1.0), dropout),
    "level of 10 s": lambda dropout: LayeredStudent(replace(MICRO, level_dur=10.0), dropout),
}


def costs(net: LayeredStudent) -> tuple[int, float]:
    """Parameters, and multiply-adds a second of audio, after the log-mel."""
    found = 0

    def count(module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        nonlocal found
        values = (output[0] if isinstance(output, tuple) else output).numel()
        time = values // (module.hidden_size if isinstance(module, nn.GRU) else 1)
        weights = [w for name, w in module.named_parameters(recurse=False) if name.startswith("weight")]
        found += sum(time * w.numel() if isinstance(module, nn.GRU) else values * w[0].numel() for w in weights)

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv1d, nn.Linear, nn.GRU))]
    dur = 10
    with torch.no_grad():
        net.eval()(torch.zeros(1, dur * net.frontend.sampling_rate))
    for hook in hooks:
        hook.remove()
    return sum(weight.numel() for weight in net.parameters()), found / dur


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--only", nargs="*", default=list(FORMS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(student="micro", steps=arguments.steps)
    labelled = read_manifest(arguments.run / "labels.csv", arguments.run / "clips")
    dev_segments = [s for path in sorted(arguments.run.glob("dev-*.csv")) for s in read_manifest(path)]
    clips, dev = (Clips(segments, config, lambda *_: None) for segments in (labelled, dev_segments))
    print("| form | parameters | MMAC/s | CCC A | CCC D | CCC V | mean |", "|---" * 7 + "|", sep="\n", flush=True)
    for name in arguments.only:
        parameters, macs = costs(FORMS[name](0.0))
        with mock.patch("wav2small.train.student.build", lambda _, dropout, form=FORMS[name]: form(dropout)):
            found = trained(config, clips, dev)  # patched, since a form has no entry point
        cells = [f"{parameters:,}", f"{macs / 1e6:.2f}", *(f"{value:.3f}" for value in [*found, np.mean(found)])]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
