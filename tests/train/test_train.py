"""Training: the seed repeats, a resumed run equals an uninterrupted one, and an easy task reaches a high CCC."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import AudioError, ManifestError, WeightsError
from wav2small.metrics import concordance_cc
from wav2small.network import reference
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import sha256
from wav2small.runtime.model import load
from wav2small.tables.manifest import Segment

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from pretend_gpu import PretendGpu  # noqa: E402
from wav2small.train import learner  # noqa: E402
from wav2small.train import student as training  # noqa: E402
from wav2small.train.clips import Clips  # noqa: E402
from wav2small.train.config import TrainConfig  # noqa: E402
from wav2small.train.distributed import own_device  # noqa: E402
from wav2small.train.embedding import to_text  # noqa: E402
from wav2small.train.learner import Learner  # noqa: E402
from wav2small.train.loop import CHECKPOINT, LOG, Loop, uninterrupted  # noqa: E402
from wav2small.train.student import BEST, Distillation, make_loop, train  # noqa: E402

RATE = 16000
TINY = TrainConfig(steps=6, batch_size=6, warm_up=2, max_dur=0.25, bucket_dur=0.125, evaluate_every=2)


pytestmark = pytest.mark.usefixtures("one_thread", "ctrl_c")


def make(folder: Path, count: int, seed: int) -> list[Segment]:
    """Two tones in noise: A is the height of the lower, V of the upper, D the mean of both."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    segments = []
    for number in range(count):
        low, high = rng.random(2)
        time = np.arange(int(rng.integers(1500, 4500))) / RATE
        tones = np.sin(2 * np.pi * (300 + 1500 * low) * time) + np.sin(2 * np.pi * (3000 + 3000 * high) * time)
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * tones + 0.01 * rng.standard_normal(len(time)), RATE)
        segments.append(
            Segment(path.name, path, speaker=f"{folder.name}{number}", emotion=Emotion(low, (low + high) / 2, high))
        )
    return segments


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[list[Segment], list[Segment]]:
    """Clips to train on, and dev clips of other speakers."""
    folder = tmp_path_factory.mktemp("data")
    return make(folder / "train", 40, 1), make(folder / "dev", 16, 2)


def silently(*_: object) -> None:
    pass


def run(data, folder: Path, config: TrainConfig = TINY, progress=silently, report=silently) -> Distillation:
    return train(*data, folder, config, {"teacher": "nobody"}, lambda title: nullcontext(progress), report)


def loop(folder: Path, config: TrainConfig, clips: Clips, device: str = "cpu") -> Loop:
    """A loop that no step was taken of yet, unless the folder has a checkpoint."""
    return make_loop(folder, Distillation(config, clips, clips, folder / BEST, {}, device=device))


def stop_after(step: int):
    """Ctrl-C when a step of six is done."""

    def progress(done: float, total: float, note: str = "") -> None:
        if (done, total) == (step, 6):
            raise KeyboardInterrupt

    return progress


def checkpoint(folder: Path) -> dict[str, object]:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def same(one: object, other: object) -> bool:
    """Bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    run(data, folder)
    return folder


def assert_equals(folder: Path, whole: Path) -> None:
    assert same(checkpoint(folder), checkpoint(whole))
    assert (folder / BEST).read_bytes() == (whole / BEST).read_bytes()
    assert log(folder) == log(whole)


def test_the_seed_repeats_and_another_differs(data, whole, tmp_path):
    torch.manual_seed(12345)
    np.random.seed(6)
    run(data, tmp_path / "again")
    assert_equals(tmp_path / "again", whole)
    run(data, tmp_path / "other", replace(TINY, seed=2, steps=2))
    assert not same(checkpoint(tmp_path / "other")["net"], checkpoint(whole)["net"])


def test_what_is_drawn_differs_from_step_to_step(data, tmp_path, monkeypatch):
    drawn, real = [], learner.tilt
    monkeypatch.setattr(learner, "tilt", lambda *arguments: drawn.append(real(*arguments)) or drawn[-1])
    run(data, tmp_path)
    assert len({tilt.numpy().tobytes() for tilt in drawn}) == 6
    assert all(float(tilt.abs().max()) <= TINY.tilt for tilt in drawn)


def test_the_learning_rate_is_highest_when_the_warm_up_ends(data, tmp_path):
    clips = Clips(data[0], TINY, silently)
    made = loop(tmp_path, replace(TINY, warm_up=3, learning_rate=0.01), clips)
    rates = []
    for step in range(TINY.steps):
        made.advance(clips.draw(step))
        rates.append(made.optimiser.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert rates[3] == 0.01 > rates[4] > rates[5] > 0


@pytest.mark.parametrize("step", range(1, 7))
def test_ctrl_c_after_a_step_loses_nothing(data, whole, tmp_path, step):
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, progress=stop_after(step))
    assert checkpoint(tmp_path)["step"] == step
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


def test_ctrl_c_within_a_step_waits_for_its_end(data, whole, tmp_path, monkeypatch):
    real, calls = training.grouped_ccc_loss, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(training, "grouped_ccc_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path)
    assert checkpoint(tmp_path)["step"] == 3
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


@pytest.mark.parametrize("when", ["answers", "weights", "report"])
def test_ctrl_c_within_an_evaluation_neither_skips_nor_doubles_it(data, whole, tmp_path, monkeypatch, when):
    """It is the last one: the weights are written for the last time."""
    calls = []

    def once(real, kill):
        def call(*arguments):
            calls.append(1)
            if len(calls) == 3 and kill:
                os.kill(os.getpid(), signal.SIGINT)
            if len(calls) == 3 and not kill:
                raise KeyboardInterrupt
            return real(*arguments)

        return call

    if when == "answers":
        monkeypatch.setattr(Learner, "predict", once(Learner.predict, False))
    if when == "weights":
        monkeypatch.setattr(training, "to_arrays", once(training.to_arrays, True))
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, report=once(silently, False) if when == "report" else silently)
    monkeypatch.undo()
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


def test_a_crash_goes_back_to_the_last_checkpoint_and_ends_the_same(data, whole, tmp_path, monkeypatch):
    real = training.grouped_ccc_loss
    left = iter([real] * 4)
    monkeypatch.setattr(training, "grouped_ccc_loss", lambda *arguments: next(left)(*arguments))
    with pytest.raises(StopIteration):
        run(data, tmp_path)
    assert checkpoint(tmp_path)["step"] == 4
    monkeypatch.undo()
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


def test_a_run_that_is_done_stays_as_it_is(data, whole, tmp_path):
    run(data, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run(data, tmp_path, progress=lambda done, total, note="": total != 6 or pytest.fail("a step was taken"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_log_has_a_line_an_evaluation(whole):
    lines = log(whole)
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(line.keys() == {"step", "loss", *OUTPUTS} for line in lines)


@pytest.fixture(scope="module")
def learnt(data, tmp_path_factory) -> tuple[Path, Distillation]:
    folder = tmp_path_factory.mktemp("learnt")
    torch.set_num_threads(1)
    config = replace(TINY, steps=48, evaluate_every=6, batch_size=12, warm_up=4, average=0.8, tilt=1.0)
    return folder, run(data, folder, replace(config, learning_rate=6e-3))


def test_an_easy_task_is_learnt(learnt):
    lines = log(learnt[0])
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert np.mean([lines[-1][name] for name in OUTPUTS]) > 0.5


def test_the_weights_kept_are_the_best_and_are_a_student(learnt, data):
    """The reference, which shares no code with torch, gets the CCC that the log and the weights claim."""
    lines = log(learnt[0])
    arrays, metadata, network = reference.load_student(learnt[0] / BEST)
    best = max(lines, key=lambda line: np.mean([line[name] for name in OUTPUTS]))
    assert int(metadata["step"]) == best["step"] and metadata["teacher"] == "nobody"
    signals = [soundfile.read(segment.path, dtype="float32")[0] for segment in data[1]]
    answers = np.array([reference.forward(signal, arrays, network)[1] for signal in signals])
    for d, name in enumerate(OUTPUTS):
        found = concordance_cc([segment.emotion[d] for segment in data[1]], answers[:, d])
        assert found == pytest.approx(best[name], abs=2e-3)
        assert json.loads(metadata["dev_ccc"])[name] == pytest.approx(best[name], abs=6e-5)
    assert json.loads(metadata["recipe"])["steps"] == 48


def embedded(segments: list[Segment], size: int = 2) -> list[Segment]:
    """With the heights of both tones, and zeros, as the teacher's embedding."""
    return [
        replace(s, fields={"embedding": to_text(np.array([s.emotion.arousal, s.emotion.valence, *[0] * (size - 2)]))})
        for s in segments
    ]


@pytest.mark.slow
def test_embeddings_are_learnt_beside_the_labels(data, tmp_path):
    """Labels of the first tone only: the second is known from nothing but the embedding."""
    config = replace(TINY, steps=30, batch_size=16, warm_up=5, evaluate_every=30, embedding=4.0)
    dull = [replace(s, emotion=Emotion(s.emotion.arousal, s.emotion.arousal, s.emotion.arousal)) for s in data[0]]
    run((embedded(dull), data[1]), tmp_path / "plain", replace(config, embedding=0.0))
    given = [replace(s, fields=e.fields) for s, e in zip(dull, embedded(data[0]), strict=True)]
    clips = Clips(given, config, silently)
    made = run((given, data[1]), tmp_path / "with", config)
    errors = []
    with torch.no_grad():
        for step in range(5):
            signal, _, wanted = clips.draw(1000 + step)
            own = made.net.eval().features_to_emotion(made.net.log_mel(signal))[1]
            guessed = own @ made.learner.guess.weight.T + made.learner.guess.bias
            errors.append((guessed - wanted).square().mean(0) / torch.from_numpy(clips.embeddings.var(0)))
    assert torch.stack(errors).mean(0)[1] < 0.8
    assert not same(checkpoint(tmp_path / "with")["net"], checkpoint(tmp_path / "plain")["net"])


def test_a_run_with_embeddings_resumes(data, tmp_path):
    given = (embedded(data[0]), data[1])
    run(given, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "run", progress=stop_after(3))
    run(given, tmp_path / "run")
    assert_equals(tmp_path / "run", tmp_path / "whole")


def test_embeddings_count_only_if_every_clip_has_one(data, whole, tmp_path):
    run(([*embedded(data[0])[:-1], data[0][-1]], data[1]), tmp_path)
    assert_equals(tmp_path, whole)


def test_embeddings_of_two_sizes_are_refused(data, tmp_path):
    with pytest.raises(ManifestError, match="embeddings have sizes 2 and 3"):
        run(([*embedded(data[0][:20]), *embedded(data[0][20:], 3)], data[1]), tmp_path)


def test_the_average_follows_the_student_slower_and_slower(data, tmp_path):
    clips = Clips(data[0], TINY, silently)
    training_loop = loop(tmp_path, replace(TINY, average=0.2), clips)
    made = training_loop.task
    for step, keep in enumerate((1 / 11, 2 / 12, 0.2)):
        before = made.learner.averaged.lin.weight.clone()
        training_loop.advance(clips.draw(step))
        expected = keep * before + (1 - keep) * made.net.lin.weight
        np.testing.assert_allclose(made.learner.averaged.lin.weight.detach(), expected.detach(), atol=1e-7)
        assert not torch.equal(made.learner.averaged.lin.weight, made.net.lin.weight)
    assert torch.equal(made.learner.averaged.mel, made.net.mel)
    assert int(made.learner.averaged.norm1.num_batches_tracked) == 3


def test_only_what_is_better_replaces_the_weights_also_after_a_resume(data, tmp_path):
    clips = Clips(data[0], TINY, silently)

    def record(arousal: float) -> str:
        """In a run that is resumed each time; what was the step of the weights that were kept?"""
        made = loop(tmp_path, TINY, clips)
        made.advance(clips.draw(made.step))
        made.record({"step": made.step}, {"arousal": arousal, "dominance": 0.2, "valence": 0.1})
        return reference.load_student(tmp_path / BEST)[1]["step"]

    assert [record(arousal) for arousal in (-0.9, 0.3, 0.1, 0.3, 0.5)] == ["1", "2", "2", "2", "5"]


@pytest.mark.parametrize(
    "student", ["wav2small", "wav2small-running", "wav2small-17k", "micro", "micro-int8", "mobilenetv3-small"]
)
def test_a_step_and_an_evaluation_on_a_gpu_are_those_on_the_cpu(data, tmp_path, student):
    if student.startswith("mobilenet"):
        pytest.importorskip("timm", reason="needs the extra mobilenet")
    config = replace(TINY, student=student, max_dur=1.0)
    clips = Clips(embedded(data[0]), config, silently)
    here = loop(tmp_path / "here", config, clips)
    with PretendGpu():
        there = loop(tmp_path / "there", config, clips, "cuda")
        batches = [clips.draw(step) for step in range(2)]
        assert [there.advance(batch) for batch in batches] == [here.advance(batch) for batch in batches]
        assert all(weight.device.type == "cuda" for weight in there.task.net.parameters())
        np.testing.assert_array_equal(
            there.task.learner.predict(clips.signals[:3]), here.task.learner.predict(clips.signals[:3])
        )
        for run in (here, there):
            run.record({"step": 2}, {"arousal": 0.1, "dominance": 0.2, "valence": 0.3})
    assert (tmp_path / "there" / BEST).read_bytes() == (tmp_path / "here" / BEST).read_bytes()
    assert same(checkpoint(tmp_path / "there"), checkpoint(tmp_path / "here"))


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]


def test_a_batch_holds_clips_at_some_place_with_their_labels(data):
    clips = Clips(data[0], TINY, silently)
    widths, places_found = set(), {True: set(), False: set()}
    for step in range(20):
        batch, labels, _ = clips.draw(step)
        assert batch.shape[0] == TINY.batch_size and batch.dtype == labels.dtype == torch.float32
        assert batch.shape[1] in (2000, 4000)
        widths.add(batch.shape[1])
        again, _, _ = clips.draw(step)
        assert torch.equal(batch, again)
        for row, label in zip(batch.numpy(), labels.numpy(), strict=True):
            number = int(np.argmin(np.abs(clips.labels - label).sum(1)))
            source = clips.signals[number].astype(np.float32) / 32768
            inside, outside = (source, row) if len(source) < len(row) else (row, source)
            places = np.lib.stride_tricks.sliding_window_view(outside, len(inside))
            found = np.flatnonzero((places == inside).all(1))
            assert len(found), "the clip, or a part of it"
            places_found[len(source) < len(row)].add(int(found[0]))
            assert len(source) >= len(row) or np.count_nonzero(row) <= len(source)
    assert widths == {2000, 4000}
    assert min(map(len, places_found.values())) > 5, "cut and padded at random places"
    assert not torch.equal(clips.draw(0)[0][:1, :100], clips.draw(1)[0][:1, :100])


def test_clips_of_a_sample_and_silence_are_no_harm(data, tmp_path):
    soundfile.write(tmp_path / "one.wav", [0.5], RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(3000), RATE)
    odd = [Segment(n, tmp_path / n, emotion=Emotion(0.5, 0.5, 0.5)) for n in ("one.wav", "silent.wav")]
    config = replace(TINY, steps=3, batch_size=30, max_dur=0.5, bucket_dur=0.25)
    assert Clips(odd, config, silently).buckets.keys() == {1}, "one sample is padded to the shortest batch"
    made = run(([*data[0][:4], *odd], [*data[1][:4], *odd]), tmp_path / "run", config)
    assert all(torch.isfinite(tensor).all() for tensor in made.net.parameters())


def test_a_segment_is_heard_from_its_start_to_its_end(data):
    part = replace(data[0][0], start=0.02, end=0.05)
    whole_, cut = (Clips([segment], TINY, silently).signals[0] for segment in (data[0][0], part))
    np.testing.assert_array_equal(cut, whole_[320:800])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda train, dev: ([], dev), "there are no training segments"),
        (lambda train, dev: (train, []), "there are no dev segments"),
        (lambda train, dev: ([*train, replace(train[0], file="odd.wav", emotion=None)], dev), "odd.wav: has no label"),
        (lambda train, dev: (train, [replace(dev[0], emotion=None)]), "0.wav: has no label"),
        (
            lambda train, dev: ([*train, replace(train[0], speaker=dev[3].speaker)], dev),
            "speaker dev3 is in the training and in the dev segments",
        ),
        (
            lambda train, dev: ([replace(s, emotion=s.emotion._replace(valence=0.5)) for s in train], dev),
            "all training segments have the valence 0.5",
        ),
    ],
)
def test_segments_that_cannot_be_trained_on_are_said(data, tmp_path, change, sentence):
    with pytest.raises(ManifestError) as caught:
        run(change(*data), tmp_path / "run")
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_clip_that_cannot_be_read_is_named(data, tmp_path):
    gone = replace(data[0][0], path=tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"gone\.wav: there is no such file"):
        run(([*data[0], gone], data[1]), tmp_path / "run")


def test_a_folder_of_another_run_is_refused_with_what_differs(data, whole, tmp_path):
    run(data, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(WeightsError) as caught:
        run(data, tmp_path, replace(TINY, learning_rate=0.5, seed=3))
    assert str(caught.value) == (
        f"{tmp_path}: contains a run with learning_rate 0.003, given 0.5; seed 1, given 3. "
        "Give the same settings to resume it, or another folder."
    )
    with pytest.raises(WeightsError, match=r"contains a run with labels \w+, given \w+"):
        run((data[0][1:], data[1]), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "other"])
def test_a_damaged_checkpoint_is_said(data, whole, tmp_path, damage):
    content = (whole / CHECKPOINT).read_bytes()
    torch.save({"settings": 3}, tmp_path / "other.pt")
    contents = {"empty": b"", "text": b"no checkpoint", "truncated": content[: len(content) // 2]}
    contents["other"] = (tmp_path / "other.pt").read_bytes()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes(contents[damage])
    with pytest.raises(WeightsError) as caught:
        run(data, tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path}/run/{CHECKPOINT}: not a checkpoint, or damaged. Remove it to start again."
    )


def test_a_checkpoint_runs_no_code(data, whole, tmp_path):
    """A pickle that would make a file is refused, and makes none."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "run").mkdir()
    torch.save({"settings": Trap()}, tmp_path / "run" / CHECKPOINT)
    with pytest.raises(WeightsError, match="not a checkpoint"):
        run(data, tmp_path / "run")
    assert not (tmp_path / "sprung").exists()


def test_uninterrupted_puts_off_ctrl_c_and_gives_the_handler_back():
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
    assert done == [1] and signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ValueError, match="mine"), uninterrupted():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is before


def test_uninterrupted_respects_that_ctrl_c_is_ignored_and_works_in_a_thread():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    done = []

    def work() -> None:
        with uninterrupted():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]


def table(path: Path, segments: list[Segment], more: dict[str, str] | None = None) -> Path:
    who = {"teacher": "open", "teacher_version": "1", **(more or {})}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "speaker", *OUTPUTS, *who, "error"])
        writer.writerows([str(s.path), s.speaker, *s.emotion, *who.values(), ""] for s in segments)
        writer.writerow([str(path.parent / "gone.wav"), "x", "", "", "", *who.values(), "there is no such file"])
    return path


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_command_trains_on_the_rows_that_have_labels(data, tmp_path):
    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    result = command(labels, "--dev", dev, "-o", tmp_path / "run", "--steps", 2, "--data", "tones", "--threads", 1)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    step, written = result.stderr.splitlines()
    assert step.startswith("step 2: loss ") and "dev CCC arousal " in step
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/run/{BEST}: student wav2small, \d+\.\d KB", written)
    _, metadata, _ = reference.load_student(tmp_path / "run" / BEST)
    about = {key: metadata[key] for key in ("teacher", "training_data", "licence", "teacher_licence")}
    expected = {"teacher": "open 1", "training_data": "tones", "licence": "Apache-2.0", "teacher_licence": ""}
    assert about == expected
    result = command(labels, "--dev", dev, "-o", tmp_path / "run", "--steps", 3)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"wav2small: {tmp_path}/run: contains a run with steps 2, given 3.")


def test_weights_from_non_commercial_labels_say_so_and_so_does_what_is_exported_or_begun_from_them(data, tmp_path):
    free, dev = table(tmp_path / "free.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    bound = table(tmp_path / "bound.csv", data[0], {"teacher_licence": "MIT AND CC-BY-NC-SA-4.0"})
    options = ("--dev", dev, "--steps", 1, "--threads", 1, "--student", "micro")
    assert command(bound, *options, "-o", tmp_path / "run").exit_code == 0
    begun = ("--from", tmp_path / "run" / BEST, "--student", "micro-int8", "-o", tmp_path / "begun")
    assert command(free, *options[:-2], *begun).exit_code == 0
    for folder in ("run", "begun"):
        arguments = ["export", str(tmp_path / folder / BEST), "-o", str(tmp_path / f"{folder} out"), "--version", "1"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        (artefact,) = (tmp_path / f"{folder} out").glob("*.onnx")
        metadata = load(str(artefact)).metadata
        assert metadata["licence"] == "CC-BY-NC-SA-4.0"
        assert set(metadata["teacher_licence"].split(" AND ")) == {"MIT", "CC-BY-NC-SA-4.0"}
        assert result.stderr.endswith(f"{artefact}: CC-BY-NC-SA-4.0 AND MIT: not for commercial use\n")
    assert command(bound, *options, "--licence", "secret", "-o", tmp_path / "given").exit_code == 0
    _, metadata, _ = reference.load_student(tmp_path / "given" / BEST)
    assert (metadata["licence"], metadata["teacher_licence"]) == ("secret", "MIT AND CC-BY-NC-SA-4.0")


def test_the_student_can_hear_other_audio_than_the_teacher(data, tmp_path):
    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    text = labels.read_text()
    labels.write_text(text.replace(f"{data[0][0].path.parent}/", ""))
    options = ("--dev", dev, "-o", tmp_path / "run", "--steps", 2, "--threads", 1)
    assert "there is no such file" in command(labels, *options).stderr
    result = command(labels, *options, "--root", data[0][0].path.parent)
    assert result.exit_code == 0, result.output


def test_training_begins_with_given_weights(data, tmp_path):
    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    options = ("--dev", dev, "--steps", 2, "--threads", 1)
    assert command(labels, *options, "--student", "micro", "-o", tmp_path / "float").exit_code == 0
    begun = ("--student", "micro-int8", "--from", tmp_path / "float" / BEST, "-o", tmp_path / "integers")
    result = command(labels, *options, *begun)
    assert result.exit_code == 0, result.output
    arrays, metadata, config = reference.load_student(tmp_path / "integers" / BEST)
    assert config.integers and arrays["conv.weight"].dtype == np.int8 and metadata["student"] == "micro-int8"
    assert json.loads(metadata["recipe"])["start"] == sha256(tmp_path / "float" / BEST)
    result = command(labels, *options, *begun[:2], "-o", tmp_path / "integers")
    assert result.exit_code == 1 and "contains a run with start " in result.stderr
    result = command(labels, *options, *begun[2:4], "--student", "wav2small", "-o", tmp_path / "other")
    assert result.exit_code == 1 and "not the weights of this network" in result.stderr


def test_an_unknown_student_is_said_with_the_closest_before_any_clip_is_read(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Clips", lambda *_: pytest.fail("clips were read"))
    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    result = command(labels, "--dev", dev, "--student", "micr", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("wav2small: unknown student 'micr'. Did you mean 'micro'? Known: ")


def test_ctrl_c_is_130_and_the_same_command_goes_on(data, tmp_path, monkeypatch):
    def stop(done: float, total: float, note: str = "") -> None:
        assert note == "" or re.fullmatch(r"loss \d\.\d{3}", note)
        if (done, total) == (1, 2):
            raise KeyboardInterrupt

    @contextmanager
    def bar(title: str, *_: object):
        yield stop

    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    arguments = (labels, "--dev", dev, "-o", tmp_path / "run", "--steps", 2)
    monkeypatch.setattr("wav2small.cli.progress.progress_bar", bar)
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "wav2small: interrupted; the same command resumes from step 1\n"
    assert checkpoint(tmp_path / "run")["step"] == 1
    monkeypatch.undo()
    result = command(*arguments)
    assert result.exit_code == 0 and "step 2: loss" in result.stderr


def test_what_cannot_be_done_is_one_sentence(data, tmp_path):
    labels, dev = table(tmp_path / "labels.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    result = command(labels, "--dev", labels, "-o", tmp_path / "run")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("wav2small: speaker train0 is in the training and in the dev segments.")
    result = command(labels, "--dev", dev, "-o", labels / "run")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "cannot be created as a folder" in result.stderr
    result = command(labels, "--dev", dev, "-o", tmp_path / "run", "--device", "cuda:77")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("wav2small: torch has no device 'cuda:77' here. Available: cpu")
    empty = table(tmp_path / "errors.csv", [])
    result = command(empty, "--dev", dev, "-o", tmp_path / "run")
    assert result.stderr.startswith("wav2small: there are no training segments: no row has a label.")


def test_help_has_an_example_and_numbers_have_bounds():
    assert "Example:\n    wav2small train clips.csv --dev dev.csv -o runs/first" in command("--help").output
    for option, value in (("--steps", 0), ("--threads", -1), ("--seed", -1)):
        assert command("x.csv", "--dev", "y.csv", "-o", "run", option, value).exit_code == 2


def test_groups_of_a_batch_share_a_corpus(data):
    segments = [replace(s, fields={"corpus": f"c{n % 3}"}) for n, s in enumerate(data[0])]
    clips = Clips(segments, replace(TINY, within=0.5, group_size=3), silently)
    drawn = [clips._grouped(width, np.random.default_rng(n)) for width in clips.buckets for n in range(4)]
    for index in drawn:
        assert len(index) == TINY.batch_size
        for group in index.reshape(-1, 3):
            assert len({clips.corpora[i] for i in group}) == 1
    assert len({clips.corpora[i] for index in drawn for i in index}) == 3
