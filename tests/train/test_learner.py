"""What students learn by: the loss within corpora, what valence borrows, the guess of the embedding, the average."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wav2small.metrics import concordance_cc
from wav2small.network.micro import micro

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from wav2small.train.config import TrainConfig  # noqa: E402
from wav2small.train.learner import Guess, Learner, tilt  # noqa: E402
from wav2small.train.loss import borrowed, ccc_loss, centred, grouped_ccc_loss  # noqa: E402
from wav2small.train.students import build  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
GROUP = 16


def drawn(seed: int = 0, groups: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth and a prediction that follows it roughly, shape=(groups x GROUP, 3)."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(groups * GROUP, 3, generator=generator)
    return truth, truth + 0.3 * torch.rand(truth.shape, generator=generator)


def test_the_loss_is_one_minus_the_metric():
    truth, prediction = drawn()
    expected = [1 - concordance_cc(truth[:, d], prediction[:, d]) for d in range(3)]
    np.testing.assert_allclose(ccc_loss(truth, prediction), expected, atol=1e-5)
    np.testing.assert_allclose(grouped_ccc_loss(truth, prediction, GROUP, 0.0), expected, atol=1e-5)
    assert centred(truth).mean(0).abs().max() < 1e-6


def test_within_groups_it_is_the_mean_over_corpora_of_one_minus_the_metric():
    truth, prediction = drawn()
    parts = [range(first, first + GROUP) for first in range(0, len(truth), GROUP)]
    each = [[1 - concordance_cc(truth[list(part), d], prediction[list(part), d]) for d in range(3)] for part in parts]
    np.testing.assert_allclose(grouped_ccc_loss(truth, prediction, GROUP, 1.0), np.mean(each, 0), atol=1e-5)
    half = grouped_ccc_loss(truth, prediction, GROUP, 0.5)
    whole, within = (grouped_ccc_loss(truth, prediction, GROUP, weight) for weight in (0.0, 1.0))
    torch.testing.assert_close(half, (whole + within) / 2)


def test_within_groups_no_offset_between_them_is_seen():
    """Both move together from corpus to corpus, as labels do; over the whole batch that looks like agreement."""
    truth, prediction = drawn()
    offsets = torch.tensor([0.0, 2.0, -3.0, 5.0]).repeat_interleave(GROUP)[:, None]
    moved = truth + offsets, prediction + offsets
    before, after = grouped_ccc_loss(truth, prediction, GROUP, 1.0), grouped_ccc_loss(*moved, GROUP, 1.0)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)
    assert (grouped_ccc_loss(*moved, GROUP, 0.0) < 0.1 * grouped_ccc_loss(truth, prediction, GROUP, 0.0)).all()


def test_borrowed_is_one_where_the_error_of_valence_is_arousal_and_none_where_it_is_not():
    truth, _ = drawn(groups=32)
    taken, own = truth.clone(), truth.clone()
    taken[:, 2] -= 0.5 * truth[:, 0]
    own[:, 2] += torch.randn(len(truth), generator=torch.Generator().manual_seed(3))
    assert borrowed(truth, taken, GROUP).item() == pytest.approx(1, abs=1e-4)
    assert borrowed(truth, own, GROUP).item() == pytest.approx(1 / (GROUP - 1), abs=0.03), "what chance gives"
    assert borrowed(truth, truth, GROUP).item() == pytest.approx(0, abs=1e-6)
    moved = taken.clone()
    moved[:, :2] += torch.rand(len(truth), 2)
    assert borrowed(truth, moved, GROUP).item() == pytest.approx(1, abs=1e-4), "only valence is looked at"
    offset = torch.arange(32.0).repeat_interleave(GROUP)
    moved = own.clone()
    moved[:, 2] += offset
    torch.testing.assert_close(borrowed(truth, moved, GROUP), borrowed(truth, own, GROUP), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["any", "constant", "exact"])
@pytest.mark.parametrize("truth", ["any", "constant"])
def test_gradients_are_finite_whatever_is_constant(truth, prediction):
    label, emotion = drawn()
    label = torch.full_like(label, 0.5) if truth == "constant" else label
    emotion = {"constant": torch.full_like(emotion, 0.5), "exact": label.clone()}.get(prediction, emotion)
    emotion.requires_grad_()
    for within in (0.0, 0.5, 1.0):
        loss = grouped_ccc_loss(label, emotion, GROUP, within).mean() + borrowed(label, emotion, GROUP)
        (gradient,) = torch.autograd.grad(loss, emotion)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_the_gradient_of_borrowed_takes_arousal_out_of_valence():
    truth, _ = drawn()
    emotion = truth.clone()
    emotion[:, 2] += 0.5 * (truth[:, 0] - 0.5) + 0.1 * torch.randn(
        len(truth), generator=torch.Generator().manual_seed(1)
    )
    emotion.requires_grad_()
    before = borrowed(truth, emotion, GROUP)
    (gradient,) = torch.autograd.grad(before, emotion)
    assert (gradient[:, :2] == 0).all()
    assert borrowed(truth, emotion - 0.1 * gradient / gradient.abs().max(), GROUP) < before


def test_the_guess_begins_with_the_mean_and_its_loss_is_relative_to_the_variance():
    embeddings = torch.randn(500, 7, generator=torch.Generator().manual_seed(2)) * 3 + 5
    guess = Guess(4, embeddings.mean(0), float(embeddings.var(0, unbiased=False).sum()))
    assert guess.loss(embeddings, torch.randn(500, 4)).item() == pytest.approx(1, abs=1e-4)
    assert guess.loss(torch.zeros(500, 0), torch.randn(500, 4)).item() == 0
    constant = Guess(4, torch.ones(7), 0.0)
    assert constant.loss(torch.ones(500, 7), torch.randn(500, 4)).item() == 0


def learner(average: float = 0.9, **options: float) -> Learner:
    torch.manual_seed(1)
    config = replace(TrainConfig(average=average, tilt=0.0, embedding=0.0), **options)
    return Learner(build(micro("tiny", 8, 16)), torch.zeros(5), 1.0, config)


def test_the_average_follows_the_student_closely_at_first_and_slowly_later():
    one = learner()
    name, weight = next((name, value) for name, value in one.net.state_dict().items() if value.is_floating_point())
    with torch.no_grad():
        weight.add_(1.0)
    for step, expected in ((0, 0.0), (10, 0.5), (10_000, 0.9)):
        one.averaged.load_state_dict({key: value.clone() for key, value in one.net.state_dict().items()})
        with torch.no_grad():
            one.averaged.state_dict()[name].sub_(1.0)
        one.move_average(step)
        found = weight - one.averaged.state_dict()[name]
        torch.testing.assert_close(found, torch.full_like(weight, expected), atol=1e-5, rtol=0)


def test_an_answer_is_the_averaged_students_and_short_clips_are_padded():
    one = learner()
    clips = [np.random.default_rng(0).integers(-9000, 9000, size).astype(np.int16) for size in (8000, 50, 3000)]
    before = one.predict(clips)
    assert before.shape == (3, 3) and np.isfinite(before).all()
    with torch.no_grad():
        for weight in one.net.parameters():
            weight.add_(1.0)
    np.testing.assert_array_equal(one.predict(clips), before)
    np.testing.assert_array_equal(one.predict(clips[::-1]), before[::-1])


def test_the_loss_is_that_of_the_emotions_and_the_weighed_guess():
    signal, label, embedding = 0.1 * torch.randn(6, 4000), torch.rand(6, 3), torch.randn(6, 5)
    found = [
        learner(embedding=weight).loss(signal, label, embedding, lambda truth, own: (truth - own).square().mean())
        for weight in (0.0, 1.0, 3.0)
    ]
    found = [loss.detach() for loss in found[:2]] + found[2:]
    assert float(found[1]) > float(found[0])
    assert float(found[2].detach() - found[0]) == pytest.approx(3 * float(found[1] - found[0]), rel=1e-4)
    found[2].backward()


def test_a_student_in_bfloat16_learns():
    one = learner(embedding=1.0, bf16=True)
    signal, label, embedding = 0.1 * torch.randn(6, 4000), torch.rand(6, 3), torch.randn(6, 5)
    one.loss(signal, label, embedding, lambda truth, own: ccc_loss(truth, own).mean()).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in one.parameters() if weight.grad is not None)


def test_the_equaliser_over_mel_bands_is_smooth_and_one_a_clip():
    curves = tilt(300, 40, 4.0)
    assert curves.shape == (300, 1, 40) and 3.8 < curves.max() <= 4 and -4 <= curves.min() < -3.8
    assert curves.diff(dim=2).abs().max() < 0.9 and curves.std(0).min() > 1
    assert (tilt(5, 40, 0.0) == 0).all()
