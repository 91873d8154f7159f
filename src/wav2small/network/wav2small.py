"""The networks of arXiv:2408.13920: 72,477 and 15,888 parameters.

The layers are: 0 normalisation over the utterance, 1 and 2 front end, 3 to 10 the layers below, 11 and 12 tokens and
their pooling, 13 linear output.
Source: arXiv:2408.13920.
"""

from __future__ import annotations

from dataclasses import replace

from wav2small.network.config import Frontend, Layer, Network

CHANNELS = 13


def _convolution(number: int) -> Layer:
    return Layer(f"conv{number}", CHANNELS, (3, 3), norm=f"norm{number}")


LAYERS = (
    *(_convolution(number) for number in (1, 2, 3)),  # layers 3 to 5
    Layer("pool", CHANNELS, (3, 3), stride=2, pool=True),  # layer 6
    *(_convolution(number) for number in (4, 5, 6, 7)),  # layers 7 to 10
)
WAV2SMALL = Network(
    name="wav2small",
    frontend=Frontend(),
    normalisation="utterance",
    level_dur=3.0,
    layers=LAYERS,
    pooling="tokens",
    pooled=169,
    stores_frontend=True,
    score_bias=True,
)
"""The paper's student."""
RUNNING = replace(WAV2SMALL, name="wav2small-running", normalisation="running")
"""Our variant with a running level, which can stream in C."""
SMALL = replace(WAV2SMALL, name="wav2small-17k", pooling="gram", pooled=CHANNELS)
"""The 17K variant, "Wav2Small 2.0": it pools channels and appends their Gram matrix."""
