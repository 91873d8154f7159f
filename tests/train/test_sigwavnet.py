"""SigWavNet: wavelet, gates, recurrent layers and attentions follow their source, and ONNX equals torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from wav2small.session import session  # noqa: E402
from wav2small.train import supervised  # noqa: E402
from wav2small.train.config import NetworkConfig  # noqa: E402
from wav2small.train.examples import Examples  # noqa: E402
from wav2small.train.learner import tilt  # noqa: E402
from wav2small.train.students import build, sigwavnet  # noqa: E402

DB10 = """-1.326420300235487e-05 9.358867000108985e-05 -0.0001164668549943862 -0.0006858566950046825 0.00199240529499085
0.0013953517469940798 -0.010733175482979604 0.0036065535669883944 0.03321267405893324 -0.02945753682194567
-0.07139414716586077 0.09305736460380659 0.12736934033574265 -0.19594627437659665 -0.24984642432648865
0.2811723436604265 0.6884590394525921 0.5272011889309198 0.18817680007762133 0.026670057900950818"""
"""``pywt.Wavelet("db10").dec_lo`` of PyWavelets, where the kernels of the published code begin."""


def narrow(levels=2, layers=2):
    torch.manual_seed(0)
    return sigwavnet.SigWavNet(levels=levels, channels=3, hidden=4, layers=layers).eval()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_the_kernels_begin_as_the_wavelet_of_the_source():
    kernel = sigwavnet.daubechies(10)
    np.testing.assert_allclose(kernel, np.array(DB10.split(), float), atol=1e-8)
    assert [round(float(kernel[: 20 - shift] @ kernel[shift:]), 8) for shift in (0, 2, 4, 18)] == [1, 0, 0, 0]
    bands = sigwavnet.Bands(3)
    np.testing.assert_allclose(bands.kernels.detach().numpy(), np.tile(kernel, (3, 1)), atol=1e-7)


def test_bands_are_the_kernel_and_its_mirror_at_every_second_sample_before_the_gate():
    bands, rng = sigwavnet.Bands(2), np.random.default_rng(0)
    signal, kernels = rng.standard_normal(300).astype(np.float32), rng.standard_normal((2, 20)).astype(np.float32)
    bands.kernels.data = torch.from_numpy(kernels)
    bands.positive.data, bands.negative.data, bands.slope.data = (
        torch.tensor(values) for values in ([0.4, 0.6], [0.5, 0.9], [10.0, 12.0])
    )
    found = [band[0, 0].detach().numpy() for band in bands(torch.from_numpy(signal)[None, None])]
    low, expected = signal.astype(float), []
    for kernel, p, n, a in zip(kernels, (0.4, 0.6), (0.5, 0.9), (10, 12), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(low, 20)[::2]
        x = windows @ (kernel[::-1] * (-1.0) ** np.arange(20))
        expected.append(x * (sigmoid(a * (x - p)) + sigmoid(-a * (x + n))))
        low = windows @ kernel
    for one, other in zip(found, [low, *expected], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_wavelet_bands_keep_the_energy_of_the_signal():
    bands = sigwavnet.Bands(1)
    bands.slope.data[:] = 0  # the gate is then 1
    signal = torch.from_numpy(np.pad(np.random.default_rng(0).standard_normal(1000), 20).astype(np.float32))
    energy = sum(float(band.detach().square().sum()) for band in bands(signal[None, None]))
    assert energy == pytest.approx(float(signal.square().sum()), rel=1e-4)


def test_a_gate_reduces_values_between_its_thresholds_each_side_by_its_own():
    values, one = torch.tensor([-3.0, -0.7, 0.0, 0.7, 3.0]), torch.tensor(1.0)
    found = sigwavnet.gate(values, 0.5 * one, 1.0 * one, 15 * one)
    expected = [-3, -0.7 * sigmoid(15 * -0.3), 0, 0.7 * sigmoid(15 * 0.2), 3]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def states_of(layers, x):
    """Bidirectional GRUs in the equations of Cho et al. 2014 with the reset gate after the product, in NumPy."""
    for layer in layers:
        array = {name: value.detach().numpy().astype(float) for name, value in layer.named_parameters()}
        columns = []
        for suffix, order in (("", 1), ("_reverse", -1)):
            w, u, b, c = (array[f"{name}_l0{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h, rows = np.zeros(layer.hidden_size), []
            for row in x[::order]:
                (r, z, n), (rh, zh, nh) = np.split(w @ row + b, 3), np.split(u @ h + c, 3)
                r, z = sigmoid(r + rh), sigmoid(z + zh)
                h = (1 - z) * np.tanh(n + r * nh) + z * h
                rows.append(h)
            columns.append(rows[::order])
        x = np.concatenate(columns, 1)
    return x


def test_a_block_follows_the_equations_of_the_source():
    torch.manual_seed(1)
    block, rng = sigwavnet.Block(3, 4, 2), np.random.default_rng(1)
    local = rng.standard_normal((6, 9))
    array = {name: value.detach().numpy().astype(float) for name, value in block.named_parameters()}
    padded = np.pad(local, ((0, 0), (3, 3)))
    context = (
        np.stack([np.tensordot(array["context.weight"], padded[:, t : t + 7], 2) for t in range(9)], 1)
        + array["context.bias"][:, None]
    )
    context = (context - context.mean(1, keepdims=True)) / np.sqrt(context.var(1, keepdims=True) + 1e-5)
    context = np.where(context > 0, context, 0.01 * context)
    weight = softmax(array["score.weight"][0, :, 0] @ (local + context))
    mixed = local + (local @ weight)[:, None]
    mixed = np.where(mixed > 0, mixed, 0.01 * mixed)
    with torch.no_grad():
        found = block.spatial(torch.from_numpy(local).float()[None])
        np.testing.assert_allclose(found[0], mixed, atol=1e-5)
        states = block.recurrent(found.transpose(1, 2))
        np.testing.assert_allclose(states[0], states_of(block.recurrent, mixed.T), atol=1e-5)
        h = states[0].numpy().astype(float)
        score = softmax((h @ array["query.weight"].T) @ h[-1])
        expected = np.tanh(array["out.weight"] @ np.concatenate([score @ h, h[-1]]))
        np.testing.assert_allclose(block.attend(states)[0], expected, atol=1e-5)


def test_the_published_size_and_the_narrow_one():
    counts = {name: sum(p.numel() for p in build(name).parameters()) for name in ("sigwavnet", "sigwavnet-s")}
    assert counts == {"sigwavnet": 5_677_270, "sigwavnet-s": 302_038}


def test_the_shortest_signal_leaves_two_steps_in_every_band():
    net, steps = narrow(levels=5), []
    for block in net.blocks:
        block.recurrent.register_forward_hook(lambda gru, inputs, output: steps.append(inputs[0].shape[1]))
    net(torch.randn(1, net.min_length))
    assert min(steps) == steps[0] == 2
    steps.clear()
    net(torch.randn(1, net.min_length - 2))
    assert min(steps) == 1


def test_the_sampling_rate_is_halved_without_aliases_and_the_level_does_not_matter():
    net, time = narrow(), np.arange(16000) / 16000
    tones = torch.from_numpy(np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (1000, 3000, 6000)])).float()
    low = torch.nn.functional.conv1d(tones[:, None], net.half_band[None, None], stride=2)[:, 0, 50:-50]
    decibel = 10 * np.log10(2 * low.square().mean(1).numpy())
    assert abs(decibel[0]) < 0.1 and abs(decibel[1]) < 0.3 and decibel[2] < -60
    voice = torch.randn(2, 9000, generator=torch.manual_seed(0))
    features = net.log_mel(voice)
    assert features.shape == (2, 4500, 1)
    torch.testing.assert_close(features, net.log_mel(0.01 * voice), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.square().mean(1), torch.ones(2, 1), rtol=1e-3, atol=1e-3)


def test_an_equaliser_over_mel_bands_does_not_change_samples():
    assert float(tilt(4, 1, 6.0).abs().max()) == 0 < float(tilt(4, 40, 6.0).abs().max())


@pytest.mark.slow
def test_it_learns(monkeypatch):
    rng, category = np.random.default_rng(0), np.arange(24) % 2
    time = np.arange(3200) / 16000
    signals = [np.sin(2 * np.pi * (200, 1200)[kind] * time) + 0.1 * rng.standard_normal(3200) for kind in category]
    monkeypatch.setattr(supervised, "build", lambda name, dropout: narrow(layers=1).train())
    monkeypatch.setattr(supervised, "segment_signal", lambda number: 0.3 * signals[number].astype(np.float32))
    truth = np.stack([category, 1 - category, category], 1).astype(np.float32)
    config = NetworkConfig(epochs=8, batch_size=8, learning_rate=0.02, dropout=0)
    model = supervised.fit_network(Examples(np.arange(24), truth, category, 2), "any", config, 0, lambda *done: None)
    found = model.answers(np.arange(24))
    assert np.mean(found.probability.argmax(1) == category) > 0.9
    assert np.corrcoef(found.emotion[:, 0], category)[0, 1] > 0.8


@pytest.mark.slow
def test_onnx_equals_torch_for_any_length_and_batch():
    pytest.importorskip("onnxscript", reason="needs the extra train")
    from wav2small.export import from_torch

    net = narrow()
    forms = from_torch.forms(net, "sigwavnet")
    assert "GRU" in {node.op_type for node in forms["fp32"][0].graph.node}
    runner = session(forms["fp32"][0].SerializeToString(), "sigwavnet")
    for batch, samples in ((1, net.min_length), (3, 12345)):
        signal = np.random.default_rng(batch).standard_normal((batch, samples)).astype(np.float32) / 10
        with torch.no_grad():
            expected = net(torch.from_numpy(signal))
        for one, other in zip(runner.run(["emotion", "embedding"], {"signal": signal}), expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4)
