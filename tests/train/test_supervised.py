"""Students trained on annotations: they learn, the seed repeats them, and every clip is in each epoch once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="needs the extra train")

from wav2small.network.weights import write_safetensors  # noqa: E402
from wav2small.tables.manifest import Segment  # noqa: E402
from wav2small.train.config import NetworkConfig  # noqa: E402
from wav2small.train.examples import Examples  # noqa: E402
from wav2small.train.students import build, to_arrays  # noqa: E402
from wav2small.train.supervised import augmented, batches, fit_network, placed  # noqa: E402

QUICK = NetworkConfig(epochs=16, batch_size=6, dropout=0, max_dur=0.25)


def examples(folder, clips=24, seed=0, dur=0.3):
    """Clips whose category and A/D/V are in the pitch of a tone in noise."""
    rng, segments = np.random.default_rng(seed), []
    category = np.arange(clips) % 3
    for number, kind in enumerate(category):
        path = Path(folder) / f"{seed} {number}.wav"
        time = np.arange(round(dur * 16000)) / 16000
        signal = 0.2 * np.sin(2 * np.pi * (300 + 900 * kind) * time) + 0.05 * rng.standard_normal(len(time))
        soundfile.write(path, signal, 16000, subtype="FLOAT")
        segments.append(Segment(path.name, path))
    truth = np.stack([0.2 + 0.3 * category, 0.8 - 0.3 * category, 0.3 + 0.4 * (category == 1)], 1).astype(np.float32)
    return Examples(np.fromiter(segments, object, clips), truth, category, 3)


def silent(*done):
    pass


def test_a_student_learns_categories_and_dimensions_and_the_seed_repeats_it(tmp_path):
    train, test, reported = examples(tmp_path), examples(tmp_path, 12, 1), []
    before = torch.get_rng_state()
    first = fit_network(train, "micro", QUICK, 3, lambda *done: reported.append(done[:2])).answers(test.inputs)
    assert torch.equal(before, torch.get_rng_state())
    assert reported == [(epoch, 16) for epoch in range(16)]
    assert np.mean(first.probability.argmax(1) == test.category) > 0.9
    assert first.emotion.min() >= 0 and first.hidden.shape == (12, 128)
    assert all(np.corrcoef(first.emotion[:, d], test.truth[:, d])[0, 1] > 0.7 for d in range(3))
    one_epoch = NetworkConfig(epochs=1, batch_size=8)
    again = [fit_network(train, "micro", one_epoch, seed, silent).answers(test.inputs) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(again[0].probability, again[1].probability)
    assert not np.array_equal(again[0].probability, again[2].probability)


def test_initial_weights_are_those_of_the_file(tmp_path):
    torch.manual_seed(9)
    arrays = to_arrays(build("micro"))
    write_safetensors(tmp_path / "a.safetensors", arrays, {})
    still = NetworkConfig(epochs=1, learning_rate=0, weight_decay=0)
    found = fit_network(examples(tmp_path, 3), "micro", still, 0, silent, tmp_path / "a.safetensors")
    for name, array in to_arrays(found.net).items():
        if "running" not in name:
            np.testing.assert_array_equal(array, arrays[name])


def test_clips_without_a_category_or_truth_are_not_fitted_on(tmp_path):
    train = examples(tmp_path, 6)
    none = Examples(train.inputs, np.full_like(train.truth, np.nan), np.full_like(train.category, -1), 3)
    config = NetworkConfig(epochs=2, batch_size=4, weight_decay=0)
    expected = fit_network(none, "micro", NetworkConfig(epochs=1, learning_rate=0, weight_decay=0), 5, silent)
    found = fit_network(none, "micro", config, 5, silent)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_clip_above_30_s_is_answered_as_the_mean_of_its_parts(tmp_path):
    short, long = examples(tmp_path, 3), examples(tmp_path, 3, 1, dur=30.5)
    model = fit_network(short, "micro", NetworkConfig(epochs=1), 0, silent)
    (segment, *_) = long.inputs
    third = 30.5 / 3
    pieces = [Segment(segment.file, segment.path, place * third, (place + 1) * third) for place in range(3)]
    expected = model.answers(np.fromiter(pieces, object, 3))
    found = model.answers(long.inputs[:1])
    np.testing.assert_allclose(found.probability[0], expected.probability.mean(0), atol=1e-4)


def test_every_clip_is_in_an_epoch_once_in_batches_of_similar_length():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1000, 60000, 203)
    epoch = list(batches(lengths, 8, rng))
    assert sorted(np.concatenate(epoch)) == list(range(203))
    assert max(map(len, epoch)) == 8 and sorted(map(len, epoch))[1:] == [8] * 25
    padding = sum(lengths[batch].max() * len(batch) for batch in epoch) / lengths.sum() - 1
    assert padding < 0.2, "0.75 in random order"
    assert not np.array_equal(np.concatenate(epoch), np.concatenate(list(batches(lengths, 8, rng))))


def test_clips_are_cut_or_padded_to_one_length_at_random_places():
    whole = np.array([-32768, 16384, 8192, 1], np.int16)
    np.testing.assert_array_equal(placed([whole], 6)[0], [-1, 0.5, 0.25, 2**-15, 0, 0])
    np.testing.assert_array_equal(placed([whole / np.float32(32768)], 2)[0], [-1, 0.5])
    rng = np.random.default_rng(0)
    cut = {tuple(placed([whole], 3, rng)[0]) for _ in range(30)}
    assert cut == {(-1, 0.5, 0.25), (0.5, 0.25, 2**-15)}
    padded = {tuple(placed([whole[:2]], 3, rng)[0]) for _ in range(30)}
    assert padded == {(-1, 0.5, 0), (0, -1, 0.5)}
    assert placed([whole], 3).dtype == np.float32


def test_a_share_of_the_clips_of_a_batch_is_distorted():
    rng = np.random.default_rng(0)
    signals = [rng.integers(-9000, 9000, 4000).astype(np.int16) for _ in range(40)]
    for share, fewest, most in ((0.0, 40, 40), (0.5, 10, 30), (1.0, 0, 0)):
        found = augmented(signals, np.arange(40), share, np.random.default_rng(1))
        kept = sum(
            np.array_equal(placed([new], 4000), placed([old], 4000)) for new, old in zip(found, signals, strict=True)
        )
        assert fewest <= kept <= most
