"""The description of a network: front end, layers and pooling. Every weights file contains it as JSON.

Every implementation iterates over ``Network.places()``: the NumPy reference, the integer reference, the ONNX graph,
the C header, the stream, the MAC count and torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from wav2small.errors import NetworkError, closest

SAMPLING_RATE = 16000
"""Sampling rate of every signal inside the package, in Hz."""

FORMAT = 1
"""Version of the JSON format. Other versions are rejected."""


class Emotion(NamedTuple):
    """One prediction: arousal, dominance and valence, nominally 0 to 1.

    Examples:
        >>> wav2small.Emotion(arousal=0.7, dominance=0.6, valence=0.4)._asdict()
        {'arousal': 0.7, 'dominance': 0.6, 'valence': 0.4}
    """

    arousal: float
    dominance: float
    valence: float

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={round(float(value), 4)!r}" for name, value in self._asdict().items())
        return f"Emotion({values})"


OUTPUTS = Emotion._fields
"""Order of the outputs in every array and file."""
NORM = ("weight", "bias", "running_mean", "running_var")
"""Arrays of a batch norm. The last two are not parameters."""
FROZEN = ("dft_real", "dft_imag", "mel")
"""Arrays of a stored front end. They count as parameters and are not trained."""
NORMALISATIONS = ("utterance", "running")
POOLINGS = ("tokens", "gram")
RESERVED = ("input", "lin", "sof", "out", "norm0", "value", *FROZEN)
"""Names that other arrays use. A layer must not have one of them."""
NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Frontend:
    """The paper's log-mel front end: 33 DFT bins every 32 samples, 26 Slaney mel bands in dB.

    A window of ``win_length`` samples is zero-padded to ``n_fft``.

    Args:
        sampling_rate: Hz
        n_fft: points of the DFT, in samples
        win_length: samples of a window, at most ``n_fft``
        hop_length: samples from one frame to the next
        n_mels: number of mel bands
        fmin: lowest frequency of the mel bands, in Hz
        fmax: highest frequency of the mel bands, in Hz
        amin: smallest mel power before the logarithm
        variance_floor: added to the variance, or to the running level, before the division

    Raises:
        NetworkError: if a value is out of range

    Source: arXiv:2408.13920, layers 1 and 2.

    Examples:
        >>> from wav2small.network.config import Frontend
        >>> Frontend().num_frames(16000), Frontend(hop_length=160, win_length=400, n_fft=512).n_bins
        (499, 257)
    """

    sampling_rate: int = SAMPLING_RATE
    n_fft: int = 64
    win_length: int = 64
    hop_length: int = 32
    n_mels: int = 26
    fmin: float = 0.0
    fmax: float = 8000.0
    amin: float = 1e-10
    variance_floor: float = 1e-7

    def __post_init__(self) -> None:
        nyquist = self.sampling_rate / 2
        for is_valid, rule in (
            (2 <= self.win_length <= self.n_fft, "win_length must be from 2 to n_fft"),
            (self.hop_length >= 1, "hop_length must be 1 or more"),
            (self.n_mels >= 2, "n_mels must be 2 or more"),
            (0 <= self.fmin < self.fmax <= nyquist, f"fmin and fmax must satisfy 0 <= fmin < fmax <= {nyquist:g} Hz"),
            (self.amin > 0 and self.variance_floor > 0, "amin and variance_floor must be above 0"),
        ):
            if not is_valid:
                raise NetworkError(f"frontend: {rule}; got {self}")

    @property
    def n_bins(self) -> int:
        """Number of bins of the real DFT, from 0 Hz to half the sampling rate inclusive."""
        return self.n_fft // 2 + 1

    def frames_in(self, dur: float) -> int:
        """Number of hops in ``dur`` seconds, rounded."""
        return round(dur * self.sampling_rate / self.hop_length)

    def num_frames(self, samples: int) -> int:
        """Number of frames of a signal of ``samples`` samples: whole windows, no padding."""
        return max(0, (samples - self.win_length) // self.hop_length + 1)


@dataclass(frozen=True)
class Layer:
    """One layer of a network: (time, mels, channels) to (time, mels, outputs).

    A layer is a convolution with batch norm and ReLU or, with ``pool``, a max-pool.

    Args:
        name: prefix of its arrays: ``NAME.weight``
        outputs: output channels
        kernel: kernel size in frames and in mels
        stride: frames from one output to the next; a pool has the same stride in mels
        dilation: frames from one tap of the kernel to the next
        causal: the kernel ends at the frame of the output; otherwise it is centred there
        depthwise: each channel has its own kernel
        pool: max-pool, which has no arrays
        norm: name of the batch norm after a convolution
        adds: residual connection: the input of the previous layer is added to the output

    Raises:
        NetworkError: if a value is out of range

    Examples:
        >>> from wav2small.network.config import Layer
        >>> Layer("conv", outputs=64, kernel=(5, 1), causal=True, norm="norm").padding
        (4, 0)
    """

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    causal: bool = False
    depthwise: bool = False
    pool: bool = False
    norm: str = ""
    adds: bool = False

    def __post_init__(self) -> None:
        numbers = (self.outputs, *self.kernel, self.stride, self.dilation)
        for is_valid, rule in (
            (bool(NAME.fullmatch(self.name)), "a name must contain only a-z, 0-9 and _ and start with a letter"),
            (min(numbers) >= 1, "outputs, kernel, stride and dilation must be 1 or more"),
            (self.causal or self.reach % 2 == 0, "a centred kernel needs an even (frames - 1) x dilation"),
            (self.kernel[1] % 2 == 1, "a kernel needs an odd number of mels"),
            (self.pool or bool(NAME.fullmatch(self.norm)), "a convolution needs norm, a name of a-z, 0-9 and _"),
        ):
            if not is_valid:
                raise NetworkError(f"layer {self.name!r}: {rule}; got {self}")

    @property
    def reach(self) -> int:
        """Number of frames from the first tap of the kernel to the last."""
        return (self.kernel[0] - 1) * self.dilation

    @property
    def padding(self) -> tuple[int, int]:
        """Number of frames of padding before the first frame and after the last."""
        return (self.reach, 0) if self.causal else (self.reach // 2, self.reach // 2)


class Place(NamedTuple):
    """A layer and the shape of its input.

    Attributes:
        layer: the layer
        inputs: channels of the input
        mels: bands of the input
        frames: front-end frames from one column of the input to the next
        stream: name of the output activations; layers joined by a residual connection share it
    """

    layer: Layer
    inputs: int
    mels: int
    frames: int
    stream: str

    @property
    def mels_out(self) -> int:
        """Number of bands of the output."""
        return -(-self.mels // self.layer.stride) if self.layer.pool else self.mels


@dataclass(frozen=True)
class Network:
    """A student network: samples to arousal, dominance and valence.

    Args:
        name: name of the student
        frontend: window, hop and mel bands
        normalisation: level normalisation. ``utterance`` (the paper) needs the whole signal: zero mean, unit variance.
            ``running`` divides each frame by the mean power of the last ``level_dur`` seconds
        level_dur: length of the running level, in seconds
        layers: the layers in order
        pooling: softmax pooling over time: of whole ``tokens``, or of channels only (``gram``), with the Gram matrix
            of the pooled channels appended
        pooled: number of pooled values
        mels_are_channels: the mel bands are the input channels of the first layer, after the batch norm ``norm0``;
            otherwise they are the height of an image with one channel
        stores_frontend: the weights file contains the DFT and mel arrays, which then count as parameters
        score_bias: the softmax score has a bias; it does not change the output, but counts as parameters
        batch_norm_eps: epsilon of every batch norm
        trained_int8: the int8 form is trained (quantisation-aware) and stores the scale of every stream
        integers: all computation is in integers, from the samples to the output (docs/integers.md)

    Raises:
        NetworkError: if a value is out of range, or layers do not fit together

    Source: arXiv:2408.13920 for ``normalisation="utterance"`` and both poolings; the running level is ours.

    Examples:
        >>> network = wav2small.load("micro").network
        >>> network.num_parameters(), network.is_causal, network.embedding_size
        (53267, True, 128)
        >>> type(network).from_json(network.to_json()) == network
        True
    """

    name: str
    frontend: Frontend
    normalisation: str
    level_dur: float
    layers: tuple[Layer, ...]
    pooling: str
    pooled: int
    mels_are_channels: bool = False
    stores_frontend: bool = False
    score_bias: bool = False
    batch_norm_eps: float = 1e-5
    trained_int8: bool = False
    integers: bool = False

    def __post_init__(self) -> None:
        for is_valid, rule in (
            (bool(self.name) and not set(self.name) & set("/\\ "), "name must be text without spaces or slashes"),
            (
                self.frontend.sampling_rate == SAMPLING_RATE,
                f"the sampling_rate of its frontend must be {SAMPLING_RATE}",
            ),
            (self.normalisation in NORMALISATIONS, f"normalisation must be one of {', '.join(NORMALISATIONS)}"),
            (self.level_frames >= 1, "level_dur must be at least one hop"),
            (self.pooling in POOLINGS, f"pooling must be one of {', '.join(POOLINGS)}"),
            (bool(self.layers), "layers must contain at least one layer"),
            (self.pooled >= 1 and self.batch_norm_eps > 0, "pooled and batch_norm_eps must be above 0"),
            (self.mels_are_channels or not self.trained_int8, "trained_int8 needs mels_are_channels"),
            (self.pooling == "tokens" or not self.integers, "integers need pooling tokens"),
        ):
            if not is_valid:
                raise NetworkError(f"network {self.name!r}: {rule}")
        names = [name for layer in self.layers for name in (layer.name, layer.norm) if name]
        twice = next((name for name in names if names.count(name) > 1 or name in RESERVED), None)
        if twice:
            raise NetworkError(
                f"network {self.name!r}: the name {twice!r} is already used; give each layer and norm its own name"
            )
        for index, place in enumerate(self.places()):
            if problem := _problem(self, index, place):
                raise NetworkError(f"network {self.name!r}: layer {place.layer.name!r} {problem}")
        if self.pooling == "gram" and self.pooled != self.layers[-1].outputs:
            raise NetworkError(f"network {self.name!r}: with pooling gram, pooled must equal the channels of a token")

    def places(self) -> list[Place]:
        """Every layer with the shape of its input, in order."""
        places: list[Place] = []
        inputs, mels = (self.frontend.n_mels, 1) if self.mels_are_channels else (1, self.frontend.n_mels)
        frames, streams = 1, _streams(self.layers)
        for layer, stream in zip(self.layers, streams, strict=True):
            places.append(Place(layer, inputs, mels, frames, stream))
            inputs, mels, frames = layer.outputs, places[-1].mels_out, frames * layer.stride
        return places

    def convolutions(self) -> list[Place]:
        """The places of the layers that have arrays, in order."""
        return [place for place in self.places() if not place.layer.pool]

    def streams(self) -> list[str]:
        """Names of the activations between the layers, each once."""
        return list(dict.fromkeys(place.stream for place in self.places()))

    @property
    def token_size(self) -> int:
        """Number of values of a token: channels x mels after the last layer."""
        last = self.places()[-1]
        return last.layer.outputs * last.mels_out

    @property
    def frames_a_token(self) -> int:
        """Number of front-end frames from one token to the next."""
        return prod(layer.stride for layer in self.layers)

    @property
    def embedding_size(self) -> int:
        """Number of values of the embedding, the input of the output layer."""
        return self.pooled if self.pooling == "tokens" else self.token_size + self.pooled**2

    @property
    def level_frames(self) -> int:
        """Number of frames whose mean power is the running level."""
        return self.frontend.frames_in(self.level_dur)

    @property
    def is_causal(self) -> bool:
        """Whether the network runs frame by frame: no output needs a later frame."""
        no_later = all(layer.causal and not layer.pool for layer in self.layers)
        return no_later and self.normalisation == "running" and self.pooling == "tokens" and self.mels_are_channels

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array in a file of float32 weights."""
        frontend, arrays = self.frontend, dict[str, tuple[int, ...]]()
        if self.stores_frontend:
            arrays |= dict.fromkeys(FROZEN[:2], (frontend.n_bins, 1, frontend.win_length))
            arrays["mel"] = (frontend.n_mels, frontend.n_bins)
        if self.mels_are_channels:
            arrays |= {f"norm0.{part}": (frontend.n_mels,) for part in NORM}
        for place in self.convolutions():
            layer = place.layer
            arrays[f"{layer.name}.weight"] = self.weight_shape(place)
            arrays |= {f"{layer.norm}.{part}": (layer.outputs,) for part in NORM}
        arrays |= {"lin.weight": self.pooling_shape, "lin.bias": (self.pooled,), "sof.weight": self.pooling_shape}
        arrays |= {"sof.bias": (self.pooled,)} if self.score_bias else {}
        return arrays | {"out.weight": (len(OUTPUTS), self.embedding_size), "out.bias": (len(OUTPUTS),)}

    def weight_shape(self, place: Place) -> tuple[int, ...]:
        """Shape of a convolution's weight: (outputs, inputs, taps), plus mels if these are not channels."""
        layer = place.layer
        kernel = layer.kernel[: 1 if self.mels_are_channels else 2]
        return (layer.outputs, 1 if layer.depthwise else place.inputs, *kernel)

    @property
    def pooling_shape(self) -> tuple[int, int]:
        """Shape of ``lin.weight`` and of ``sof.weight``."""
        return self.pooled, self.token_size if self.pooling == "tokens" else self.pooled

    def num_parameters(self) -> int:
        """Number of parameters, including a stored front end, as the paper counts them."""
        return sum(prod(shape) for name, shape in self.shapes().items() if ".running_" not in name)

    def num_trained(self) -> int:
        """Number of trained parameters: all except those of the front end."""
        return self.num_parameters() - sum(prod(self.shapes().get(name, (0,))) for name in FROZEN)

    def to_json(self, indent: int | None = None) -> str:
        """JSON with every field, so that reading it back needs no default."""
        separators = (",", ":") if indent is None else None
        return json.dumps({"format": FORMAT} | asdict(self), indent=indent, separators=separators)

    @classmethod
    def from_json(cls, text: str, source: str = "network") -> Network:
        """Read a network that :meth:`to_json` wrote.

        Args:
            text: JSON with every field; missing and unknown fields are errors
            source: name of the file, for error messages

        Raises:
            NetworkError: if the text is not valid; the message names the wrong field
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise NetworkError(f"{source}: the description of the network is not JSON ({error})") from None
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise NetworkError(
                f"{source}: not a description of a network of format {FORMAT}; was it written by another version?"
            )
        try:
            return _from_fields(cls, values, "network")
        except NetworkError as error:
            raise NetworkError(f"{source}: {error}") from None


def read_network(path: str | Path) -> Network:
    """Read a network from a JSON file, as :meth:`Network.to_json` writes it.

    Args:
        path: of the file

    Raises:
        NetworkError: if the file cannot be read, or the description is not valid

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.network.config import read_network
        >>> _ = Path("micro.json").write_text(wav2small.load("micro").network.to_json(indent=1))
        >>> read_network("micro.json").name
        'micro'
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise NetworkError(f"{path}: cannot be read ({reason}). Give a JSON file that describes a network.") from None
    return Network.from_json(text, str(path))


def _problem(network: Network, index: int, place: Place) -> str:
    """The reason why a layer is not valid at its place; "" if it is valid."""
    layer = place.layer
    if place.mels == 1 and layer.kernel[1] > 1:
        return "must have one mel in its kernel, because its input has one"
    if layer.depthwise and layer.outputs != place.inputs:
        return f"is depthwise: outputs must be {place.inputs}"
    if layer.pool:
        is_known = (layer.kernel, layer.stride, layer.dilation, layer.outputs) == ((3, 3), 2, 1, place.inputs)
        if not is_known or layer.causal or layer.depthwise or layer.norm or layer.adds:
            return f"is a pool: it must have kernel [3, 3], stride 2 and {place.inputs} outputs, and nothing else"
    if layer.adds:
        before = network.places()[index - 1]
        is_like = before.inputs == layer.outputs and not before.layer.pool
        if index < 2 or not is_like or before.layer.stride > 1 or layer.stride > 1:
            return "has adds: the input of the previous layer must be the output of a layer with the same shape"
    return ""


def _streams(layers: tuple[Layer, ...]) -> list[str]:
    """The stream of each layer's output: ``hidden``, ``hidden2`` ... with a residual connection, else ``inner1`` ..."""
    groups: list[int] = []
    for index, layer in enumerate(layers):
        before = groups[index - 1] if index else -1
        groups.append(groups[index - 2] if layer.adds and index >= 2 else before if layer.pool and index else index)
    residual = {group for group, layer in zip(groups, layers, strict=True) if layer.adds}
    names: dict[int, str] = {}
    for group in dict.fromkeys(groups):
        others = sum((other in residual) == (group in residual) for other in names)
        number = others + 1
        names[group] = ("hidden" if number == 1 else f"hidden{number}") if group in residual else f"inner{number}"
    return [names[group] for group in groups]


Built = TypeVar("Built", Network, Frontend, Layer)


def _from_fields(cls: type[Built], values: Mapping[str, Any], where: str) -> Built:
    """A dataclass from a mapping with all of its fields.

    Raises:
        NetworkError: if a field is missing, unknown or of the wrong type; the message names it
    """
    known = [field.name for field in fields(cls)]
    if not isinstance(values, Mapping):
        raise NetworkError(f"{where}: expected an object with {', '.join(known)}; got {values!r}")
    for name in values:
        if name not in known:
            raise NetworkError(f"{where}: unknown field {name!r}.{closest(name, known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise NetworkError(f"{where}: missing {', '.join(missing)}")
    types = get_type_hints(cls)
    return cls(**{name: _value(types[name], values[name], f"{where}.{name}") for name in known})


def _value(kind: Any, value: Any, where: str) -> Any:
    """A JSON value converted to the type of a field."""
    if kind is Frontend:
        return _from_fields(Frontend, value, where)
    if kind == tuple[Layer, ...] and isinstance(value, list):
        return tuple(_from_fields(Layer, row, f"{where}[{number}]") for number, row in enumerate(value))
    if kind == tuple[int, int] and isinstance(value, list) and [type(part) for part in value] == [int, int]:
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise NetworkError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")


FRONTEND = Frontend()
