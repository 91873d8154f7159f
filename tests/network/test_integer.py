"""The integer student: the torch network of the training equals the integer reference of C."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from random_student import noise, random_arrays
from wav2small.errors import WeightsError
from wav2small.network import fixed_point, reference
from wav2small.network.fixed_point import power_for, to_integers
from wav2small.network.micro import MICRO, MICRO_INT8
from wav2small.network.probes import voice

torch = pytest.importorskip("torch", reason="needs the extra train")

from wav2small.train.students import load_arrays, to_arrays  # noqa: E402
from wav2small.train.students.integer import IntegerStudent, rounded  # noqa: E402


@pytest.fixture(scope="module")
def net() -> IntegerStudent:
    """Initialised with random weights of micro, and run on a voice in training mode."""
    made = IntegerStudent(MICRO_INT8)
    made.start_from(dict(random_arrays(0, MICRO)), "random")
    made.train()
    rng = np.random.default_rng(1)
    for _ in range(3):
        made(torch.from_numpy(np.stack([voice(rng), 0.1 * voice(rng)])))
    return made.eval()


def answers(net: IntegerStudent, signal: np.ndarray) -> tuple[np.ndarray, ...]:
    with torch.no_grad():
        log_mel = net.log_mel(torch.from_numpy(signal)[None])
        tokens = net.tokens(log_mel)
        emotion, embedding = net.features_to_emotion(log_mel)
    return log_mel[0].numpy(), tokens[0].numpy(), embedding[0].numpy(), emotion[0].numpy()


@pytest.mark.parametrize(
    "signal",
    [noise(400), noise(401), noise(719), noise(7919, 1), voice(np.random.default_rng(2)), np.zeros(4000, "f4")],
)
def test_tokens_are_the_same_integers_and_the_answer_agrees(net, signal):
    arrays = to_integers(to_arrays(net), MICRO_INT8)
    log_mel, tokens, embedding, emotion = answers(net, signal)
    steps = fixed_point.to_log_mel(log_mel)
    found = fixed_point.tokens(steps, arrays, MICRO_INT8)
    np.testing.assert_array_equal(found, tokens * 2.0 ** net.bits("hidden"))
    by_integers = fixed_point.forward(steps, arrays, MICRO_INT8)
    unit = 2.0 ** -(net.bits("value") + fixed_point.EMBEDDING_BITS)
    np.testing.assert_allclose(by_integers[0] * unit, embedding, atol=8 * unit)
    np.testing.assert_allclose(by_integers[1] / 2**fixed_point.EMOTION_BITS, emotion, atol=0.005)


def test_integers_stay_near_the_weights_they_were_made_from(net):
    signal = voice(np.random.default_rng(4))
    _, expected = reference.forward(signal, random_arrays(0, MICRO), MICRO)
    _, _, _, emotion = answers(net, signal)
    np.testing.assert_allclose(emotion, expected, atol=0.15)


def test_what_is_stored_has_the_sizes_that_c_gives_it(net):
    for name, array in to_integers(to_arrays(net), MICRO_INT8).items():
        is_wide = name.startswith("input.") or name.endswith(".bias")
        assert array.dtype == (np.int32 if is_wide else np.int8), name
    assert sum(array.nbytes for array in to_integers(to_arrays(net), MICRO_INT8).values()) < 64 * 1024


def test_a_stream_of_tokens_has_the_embedding_of_all(net):
    arrays = to_integers(to_arrays(net), MICRO_INT8)
    tokens = fixed_point.tokens(fixed_point.to_log_mel(answers(net, noise(16000))[0]), arrays, MICRO_INT8)
    whole = fixed_point.embedding(fixed_point.pool(tokens, arrays))
    state = fixed_point.Pooling(*(np.full(MICRO.pooled, start, np.int64) for start in (-(2**15), 0, 0)))
    for token in tokens:
        state = fixed_point.pool_token(state, token, arrays)
    np.testing.assert_array_equal(fixed_point.embedding(state), whole)
    frames = fixed_point.tokens(fixed_point.to_log_mel(answers(net, noise(8000))[0]), arrays, MICRO_INT8)
    np.testing.assert_array_equal(frames, tokens[: len(frames)])


@given(hnp.arrays(np.int64, 5, elements=st.integers(-(2**40), 2**40)), st.integers(-3, 30))
def test_narrow_is_the_nearest_integer_with_halves_up(values, shift):
    expected = np.clip(np.floor(values / 2.0**shift + 0.5), -128, 127)
    np.testing.assert_array_equal(fixed_point.narrow(values, shift), expected)


@settings(max_examples=50)
@given(st.floats(1e-4, 1e4))
@example(127.0)
@example(127 / 2**9)
def test_the_power_is_the_finest_that_fits(top):
    bits = power_for(top)
    assert top * 2.0**bits <= 127 < top * 2.0 ** (bits + 1)


def test_the_power_has_ends_and_is_4_for_nothing_but_zero():
    assert power_for([0.0, 1e-30, 127 / 2**24, 127 * 2.0**16, 1e30]).tolist() == [4, 24, 24, -16, -16]


def test_an_answer_is_cut_to_32_bits_as_in_c():
    arrays = {"out.weight": np.ones((4, 1), np.int8), "out.shift": np.int8([-2, -2, -1, 1])}
    arrays["out.bias"] = np.int32([2**30, -(2**30), 2**29, 5])
    state = fixed_point.Pooling(*np.int64([[0], [1], [0]]))
    np.testing.assert_array_equal(fixed_point.read_pool(state, arrays)[1], [2**31 - 1, -(2**31), 2**30, 3])


def test_rounding_passes_the_gradient_where_it_fits():
    values = torch.tensor([-9.0, -0.3, 0.3, 9.0], requires_grad=True)
    out = rounded(values, 4)
    out.sum().backward()
    np.testing.assert_array_equal(out.detach().numpy(), [-8, -0.3125, 0.3125, 7.9375])
    np.testing.assert_array_equal(values.grad.numpy(), [0, 1, 1, 0])


def test_it_begins_with_micro_and_nothing_else(net):
    with pytest.raises(WeightsError, match=r"x\.safetensors: not the weights of this network"):
        IntegerStudent(MICRO_INT8).start_from(dict(random_arrays()), "x.safetensors")
    again = IntegerStudent(MICRO_INT8)
    load_arrays(again, to_arrays(net), "again")
    for name, array in to_integers(to_arrays(again), MICRO_INT8).items():
        np.testing.assert_array_equal(array, to_integers(to_arrays(net), MICRO_INT8)[name])
