"""The reference for other front ends, for integers as training writes them, and for integers from dB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from random_student import METADATA, metadata_of, noise, random_arrays, random_trained
from wav2small.errors import WeightsError
from wav2small.network import fixed_point, reference
from wav2small.network.config import Frontend
from wav2small.network.micro import MICRO_INT8
from wav2small.network.wav2small import SMALL, WAV2SMALL
from wav2small.network.weights import write_safetensors


def test_the_features_are_those_of_the_networks_own_front_end():
    """A larger floor of the variance lowers every band by as much as the signal."""
    signal, floor = noise(7919, 1), 1e-2
    frontend = Frontend(n_fft=128, win_length=100, hop_length=50, n_mels=20, variance_floor=floor)
    network = replace(WAV2SMALL, name="other", frontend=frontend, stores_frontend=False)
    default = replace(network, frontend=replace(frontend, variance_floor=1e-7))
    found, variance = reference.features(signal, network), float(np.var(signal, dtype=np.float64))
    assert found.shape == (frontend.num_frames(7919), 20)
    lower = 10 * np.log10(variance / (variance + floor))
    bands = found[0] > -90  # a band without bins is at the floor of the power
    np.testing.assert_allclose(found[:, bands], reference.features(signal, default)[:, bands] + lower, atol=1e-3)


@pytest.mark.parametrize("network", [WAV2SMALL, SMALL], ids=lambda network: network.name)
def test_a_bias_of_the_score_changes_nothing_and_need_not_be_there(network):
    arrays, without = random_arrays(0, network), replace(network, name="without", score_bias=False)
    embedding, emotion = reference.forward(noise(3001), arrays, network)
    for bias in (arrays["sof.bias"] + np.float32(3), None):
        changed = {name: array for name, array in arrays.items() if name != "sof.bias"}
        changed |= {} if bias is None else {"sof.bias": bias}
        reference.check_student(changed, network if bias is not None else without)
        found = reference.forward(noise(3001), changed, network if bias is not None else without)
        np.testing.assert_allclose(found[0], embedding, atol=1e-4)
        np.testing.assert_allclose(found[1], emotion, atol=1e-4)


def test_integers_are_read_as_training_writes_them_and_as_they_run(tmp_path):
    """Training keeps floats and the largest value of each stream."""
    write_safetensors(tmp_path / "trained", random_trained(1, MICRO_INT8), metadata_of(MICRO_INT8))
    write_safetensors(tmp_path / "integers", random_arrays(1, MICRO_INT8), metadata_of(MICRO_INT8))
    for name in ("trained", "integers"):
        arrays, _, network = reference.load_student(tmp_path / name)
        assert network == MICRO_INT8 and arrays.keys() == random_arrays(1, MICRO_INT8).keys()
        for key, expected in random_arrays(1, MICRO_INT8).items():
            np.testing.assert_array_equal(arrays[key], expected)
            assert arrays[key].dtype == expected.dtype
    write_safetensors(tmp_path / "bare", random_arrays(1, MICRO_INT8), METADATA)
    with pytest.raises(WeightsError, match="do not contain a network"):
        reference.load_student(tmp_path / "bare")


def test_integers_answer_from_log_mel_in_decibel_nearly_as_from_samples():
    arrays, signal = random_arrays(1, MICRO_INT8), noise(16_001, 2)
    decibel = reference.features(signal, MICRO_INT8)
    embedding, emotion = reference.features_to_emotion(decibel, arrays, MICRO_INT8)
    expected = fixed_point.forward(np.round(decibel * 64).astype(np.int64), arrays, MICRO_INT8)
    np.testing.assert_array_equal(emotion, (expected[1] / 2**15).astype(np.float32))
    of_samples = reference.forward(signal, arrays, MICRO_INT8)
    np.testing.assert_allclose(emotion, of_samples[1], atol=0.02)
    np.testing.assert_allclose(embedding, of_samples[0], atol=0.1)
