"""The torch student: the paper's sizes, agreement with the NumPy reference, and what training must not touch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_student import NETWORKS, noise, random_arrays
from wav2small.errors import PluginError, WeightsError
from wav2small.export.parity import TOLERANCES, difference, relative
from wav2small.network import reference
from wav2small.network.config import Layer
from wav2small.network.frontend import log_mel, normalise
from wav2small.network.probes import voice
from wav2small.network.wav2small import RUNNING, SMALL, WAV2SMALL

torch = pytest.importorskip("torch", reason="needs the extra train")

from wav2small.train.students import build, from_arrays, to_arrays  # noqa: E402
from wav2small.train.students.layered import LayeredStudent  # noqa: E402

PAPER = {"dft": 4224, "mel": 858, "block 1": 143, "blocks 2 to 7": 6 * 1547, "pooling": 57460, "out": 510}


def net(seed: int = 0) -> LayeredStudent:
    return from_arrays(dict(random_arrays(seed)), WAV2SMALL)


def count(prefix: str) -> int:
    return sum(value.numel() for name, value in LayeredStudent(WAV2SMALL).named_parameters() if name.startswith(prefix))


def test_72477_parameters_of_which_67395_are_trained():
    parameters = list(LayeredStudent(WAV2SMALL).parameters())
    assert sum(value.numel() for value in parameters) == 72477 == WAV2SMALL.num_parameters()
    assert sum(value.numel() for value in parameters if value.requires_grad) == 67395


def test_each_layer_has_the_papers_number_of_parameters():
    found = {
        "dft": count("dft"),
        "mel": count("mel"),
        "block 1": count("conv1") + count("norm1"),
        "blocks 2 to 7": sum(count(f"conv{index}") + count(f"norm{index}") for index in range(2, 8)),
        "pooling": count("lin") + count("sof"),
        "out": count("out"),
    }
    assert found == PAPER


def test_names_and_shapes_are_those_of_the_reference():
    assert {name: array.shape for name, array in to_arrays(LayeredStudent(WAV2SMALL)).items()} == WAV2SMALL.shapes()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(samples=st.integers(64, 9000), batch=st.integers(1, 3), seed=st.integers(0, 3))
def test_torch_agrees_with_the_reference_at_three_depths(samples, batch, seed):
    signals = np.stack([noise(samples, seed=10 * seed + row, level=10.0 ** (row - 2)) for row in range(batch)])
    with torch.no_grad():
        decibel = net(seed).log_mel(torch.from_numpy(signals))
        emotion, embedding = net(seed).features_to_emotion(decibel)
    allowed = TOLERANCES["fp32"]
    for row, signal in enumerate(signals):
        expected_embedding, expected_emotion = reference.forward(signal, random_arrays(seed), WAV2SMALL)
        assert difference(decibel[row].numpy(), log_mel(normalise(signal))) < allowed.log_mel
        assert relative(embedding[row].numpy(), expected_embedding) < allowed.embedding
        assert relative(emotion[row].numpy(), expected_emotion) < allowed.emotion


def test_the_whole_is_its_two_parts_and_leaves_the_signal_alone():
    signal = torch.from_numpy(noise(8000))[None] + 0.2
    original = signal.clone()
    with torch.no_grad():
        whole, parts = net()(signal), net().features_to_emotion(net().log_mel(signal))
    assert torch.equal(signal, original)
    assert torch.equal(whole[0], parts[0]) and torch.equal(whole[1], parts[1])
    assert whole[0].shape == (1, 3) and whole[1].shape == (1, 169)


def test_each_signal_is_answered_as_if_alone():
    signals = torch.from_numpy(np.stack([noise(5000, seed=row, level=10.0**-row) for row in range(4)]))
    with torch.no_grad():
        together = net()(signals)[0]
        alone = torch.cat([net()(signal[None])[0] for signal in signals])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_level_and_offset_change_nothing():
    signal = torch.from_numpy(voice(np.random.default_rng(1)))[None]
    with torch.no_grad():
        np.testing.assert_allclose(net()(8 * signal + 0.1)[0], net()(signal)[0], atol=5e-3)


def test_a_token_hears_25_frames_which_is_832_samples():
    features = log_mel(noise(64 + 32 * 199))
    before = reference.tokens(features, random_arrays(), WAV2SMALL)
    features[100] += 30
    touched = np.flatnonzero(np.abs(reference.tokens(features, random_arrays(), WAV2SMALL) - before).max(1) > 0)
    assert all(abs(2 * token - 100) <= 12 for token in touched)
    assert touched.min() == 44 and touched.max() == 56


def test_a_token_is_channel_by_channel():
    tokens = reference.tokens(log_mel(noise(3000)), random_arrays(), WAV2SMALL)
    with torch.no_grad():
        features = torch.from_numpy(log_mel(noise(3000)))[None]
        np.testing.assert_allclose(net().tokens(features)[0], tokens, atol=1e-3)
    assert tokens.shape[1] == 169 == WAV2SMALL.embedding_size


def test_training_moves_every_trained_parameter_and_no_frozen_one():
    student = from_arrays(dict(random_arrays()), WAV2SMALL).train()
    before = {name: value.detach().clone() for name, value in student.named_parameters()}
    optimiser = torch.optim.AdamW((value for value in student.parameters() if value.requires_grad), 1e-2)
    emotion, _ = student(torch.from_numpy(np.stack([noise(4000), noise(4000, 1)])))
    emotion.square().sum().backward()
    optimiser.step()
    still = {name for name, value in student.named_parameters() if torch.equal(value, before[name])}
    assert still == {"dft_real", "dft_imag", "mel"}


def test_dropout_is_for_training_only_and_never_of_the_embedding():
    student, signal = LayeredStudent(WAV2SMALL, dropout=0.5), torch.from_numpy(noise(4000))[None]
    assert to_arrays(student).keys() == WAV2SMALL.shapes().keys()
    decibel = student.log_mel(signal)
    first, second = student.features_to_emotion(decibel), student.features_to_emotion(decibel)
    assert not torch.equal(first[0], second[0])
    np.testing.assert_allclose(first[1].detach(), second[1].detach(), atol=1e-6)
    student.eval()
    assert torch.equal(student(signal)[0], student(signal)[0])


def test_autocast_keeps_the_answer_and_float32_where_it_matters():
    signal = torch.from_numpy(voice(np.random.default_rng(2)))[None]
    with torch.no_grad():
        exact = net()(signal)
        with torch.autocast("cpu", torch.bfloat16):
            decibel = net().log_mel(signal)
            emotion, embedding = net().to(memory_format=torch.channels_last).features_to_emotion(decibel)
    assert decibel.dtype == emotion.dtype == embedding.dtype == torch.float32
    np.testing.assert_array_equal(decibel, net().log_mel(signal))
    np.testing.assert_allclose(emotion, exact[0], atol=0.1)


def test_arrays_survive_the_way_through_the_network():
    arrays = to_arrays(net(3))
    assert arrays.keys() == random_arrays(3).keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, random_arrays(3)[name])


def test_arrays_are_copies():
    student = net()
    to_arrays(student)["out.bias"][:] = 9
    assert not (to_arrays(student)["out.bias"] == 9).any()


def test_missing_and_left_over_arrays_are_named():
    arrays = dict(random_arrays())
    arrays["lin.wait"] = arrays.pop("lin.weight")
    with pytest.raises(WeightsError, match=r"missing: lin\.weight; left over: lin\.wait"):
        from_arrays(arrays, WAV2SMALL)


def test_another_front_end_is_refused():
    arrays = dict(random_arrays())
    arrays["mel"] = arrays["mel"] * np.float32(1.01)
    with pytest.raises(WeightsError, match="mel differs from this version's front end by"):
        from_arrays(arrays, WAV2SMALL)


FLOAT = {name: network for name, network in NETWORKS.items() if name != "micro-int8"}
"""tests/test_integer.py has the other."""


@pytest.mark.parametrize("config", FLOAT.values(), ids=FLOAT)
@settings(max_examples=10, deadline=None)
@given(samples=st.integers(400, 9000), seed=st.integers(0, 3))
def test_every_student_of_the_family_agrees_with_the_reference(config, samples, seed):
    arrays, signal = random_arrays(seed, config), noise(samples, seed)
    student = from_arrays(dict(arrays), config)
    with torch.no_grad():
        decibel = student.log_mel(torch.from_numpy(signal)[None])
        emotion, embedding = student.features_to_emotion(decibel)
    expected_embedding, expected_emotion = reference.forward(signal, arrays, config)
    assert embedding.shape == (1, student.embedding_size) == (1, len(expected_embedding))
    assert difference(decibel[0].numpy(), reference.features(signal, config)) < TOLERANCES["fp32"].log_mel
    assert relative(embedding[0].numpy(), expected_embedding) < TOLERANCES["fp32"].embedding
    assert relative(emotion[0].numpy(), expected_emotion) < TOLERANCES["fp32"].emotion


def test_the_17k_variant_has_15888_parameters():
    net = build("wav2small-17k")
    assert sum(value.numel() for value in net.parameters()) == 15888 == SMALL.num_parameters()


def test_its_embedding_is_the_pooled_map_and_its_gram_matrix():
    config = SMALL
    embedding, _ = reference.forward(noise(4000), random_arrays(0, config), config)
    pooled = embedding[:169].reshape(13, 13)
    np.testing.assert_allclose(embedding[169:].reshape(13, 13), pooled @ pooled.T, rtol=1e-5)


def test_a_running_level_needs_nothing_of_what_comes():
    config, signal = RUNNING, voice(np.random.default_rng(3))
    whole, part = reference.features(signal, config), reference.features(signal[:20000], config)
    np.testing.assert_array_equal(whole[: len(part)], part)
    utterance = reference.features(signal[:20000], WAV2SMALL)
    assert difference(reference.features(signal, WAV2SMALL)[: len(part)], utterance) > 0.1, "and the utterance's does"


def test_a_running_level_forgets_after_three_seconds():
    config, quiet = RUNNING, noise(5 * 16000, level=0.01)
    loud_before = np.concatenate([noise(16000, 1, level=0.5), quiet])
    after = reference.features(loud_before, config)[-500:]
    np.testing.assert_allclose(after, reference.features(quiet, config)[-500:], atol=1e-3)
    assert RUNNING.level_frames == 1500


@pytest.mark.parametrize("gain", [0.1, 10.0])
def test_gain_is_gone_after_a_running_level(gain):
    config, signal = RUNNING, noise(16000)
    change = reference.features((gain * signal).astype(np.float32), config) - reference.features(signal, config)
    assert np.abs(change).max() < 0.05


def test_every_name_builds_and_an_unknown_one_is_said_with_the_closest():
    for name in NETWORKS:
        assert build(name).network == NETWORKS[name]
    with pytest.raises(PluginError, match=r"unknown student 'wav2smal'\. Did you mean 'wav2small'\? Known: .*17k"):
        build("wav2smal")


def test_other_sizes_agree_too():
    layers = (
        Layer("conv1", 5, (3, 3), norm="norm1"),
        Layer("pool", 5, (3, 3), stride=2, pool=True),
        *(Layer(f"conv{number}", 5, (3, 3), norm=f"norm{number}") for number in (2, 3)),
    )
    config = replace(WAV2SMALL, name="small", layers=layers, pooled=65)
    torch.manual_seed(0)
    student, signal = LayeredStudent(config).eval(), noise(3000)
    with torch.no_grad():
        emotion, embedding = student(torch.from_numpy(signal)[None])
    expected_embedding, expected_emotion = reference.forward(signal, to_arrays(student), config)
    assert embedding.shape == (1, 65)
    np.testing.assert_allclose(embedding[0], expected_embedding, atol=1e-3)
    np.testing.assert_allclose(emotion[0], expected_emotion, atol=1e-3)
