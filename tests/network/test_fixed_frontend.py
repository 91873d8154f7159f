"""The front end in integers where no shipped network shows it: the edges of samples, of tables and of the FFT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.network.fixed_frontend import tables, to_samples
from wav2small.network.micro import MICRO
from wav2small.network.wav2small import RUNNING, WAV2SMALL


def test_samples_are_cut_to_16_bits_and_what_is_not_a_number_is_zero():
    signal = [1.0, 2.0, 1e30, -1.0, -2.0, -1e30, np.nan, 32767 / 32768, 0.5]
    np.testing.assert_array_equal(to_samples(signal), [32767] * 3 + [-32768] * 3 + [0, 32767, 16384])


@settings(deadline=None)
@given(st.integers(4, 32766))
def test_samples_are_rounded_in_float32_as_c_does_it(sample):
    """A value closer to one half than float32 resolves counts as one half and is rounded up."""
    just_below = (sample + 0.5) / 32768 - 1e-12
    assert to_samples(np.array([just_below, -just_below])).tolist() == [sample + 1, -sample]


@pytest.mark.parametrize("network", [MICRO, WAV2SMALL, RUNNING], ids=lambda network: network.name)
def test_a_window_of_the_largest_samples_fits_into_32_bits_and_wastes_none(network):
    """The FFT doubles the sum of a window; over their mean, samples have a bit more."""
    for win_length in (network.frontend.win_length, 64, 100, 256):
        made = replace(network, frontend=replace(network.frontend, n_fft=512, win_length=win_length))
        table, largest = tables(made), 2**15 * (1 if made.normalisation == "running" else 2)
        window = np.concatenate([table.hann, table.hann[-2:0:-1]])
        assert len(window) == win_length
        assert 2**29 < 2 * (largest * int(window.sum()) >> table.window_shift) <= 2**31
