"""``wav2small distil``: students beside each other, what each wrong use prints, and Ctrl-C, by the command itself."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import distil as command
from wav2small.cli import main
from wav2small.metrics import concordance_cc
from wav2small.network import reference
from wav2small.network.config import OUTPUTS
from wav2small.network.micro import micro

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

import online_world as world  # noqa: E402
from online_world import TINY, corpus, silently, tiny_teacher  # noqa: E402
from wav2small.tables.manifest import read_manifest  # noqa: E402
from wav2small.train.config import DistilConfig  # noqa: E402
from wav2small.train.loop import CHECKPOINT, LOG  # noqa: E402
from wav2small.train.online.distil import Dev, Online, Pupil, composer, embedding_moments, make_loop  # noqa: E402
from wav2small.train.online.distort import Distortion  # noqa: E402
from wav2small.train.online.labels import Labeller  # noqa: E402
from wav2small.train.online.pool import Source, load_pool  # noqa: E402
from wav2small.train.online.run import Corpus  # noqa: E402
from wav2small.train.teachers import load_teacher  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread", "ctrl_c")
DEFAULTS = {"durations": TINY.durations, "ring": TINY.ring, "warm_up": 2, "dev_clips": 3}
SMALL = ("--steps", 4, "--batch-size", 8, "--group-size", 4, "--evaluate-every", 2, "--device", "cpu", "--threads", 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Short clips, few shards, no processes."""
    world.inline(monkeypatch)
    monkeypatch.setattr(command, "DistilConfig", partial(DistilConfig, **DEFAULTS))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(("first", "second", "away", "noise", "rooms")):
        corpus(folder / name, 9, number)
    tiny_teacher(folder)
    return folder


def distil(data: Path, output: Path, *arguments: object, corpora: tuple[str, ...] = ("first", "second")) -> Result:
    teacher = () if "--teacher" in arguments else ("--teacher", data / "tiny1.safetensors")
    sources = [",".join(str(data / part) for part in name.split(",")) for name in corpora]
    return CliRunner().invoke(main, list(map(str, ["distil", *sources, "-o", output, *SMALL, *teacher, *arguments])))


def one_sentence(result: Result) -> str:
    """Error message of a command that failed."""
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
    return result.stderr.removeprefix("wav2small: ").strip()


def test_the_command_trains_its_students_and_says_how_good_they_are(data, tmp_path):
    options = ("--student", "micro", "--student", "micro-l", "--left-out", data / "away", "--data", "tones")
    recorded = ("--noise", data / "noise", "--rooms", data / "rooms")
    result = distil(data, tmp_path / "run", *options, *recorded)
    assert result.exit_code == 0, result.output
    files = [f"{tmp_path}/run/{name}.safetensors" for name in ("micro", "micro-l")]
    assert result.stdout == ""
    r = r"r arousal -?\d\.\d{3}, dominance -?\d\.\d{3}, valence -?\d\.\d{3}"
    line = rf"step (\d), (\S+): dev CCC (-?\d\.\d{{3}}), {r}; left out CCC -?\d\.\d{{3}}, {r}"
    *steps, first, second = result.stderr.splitlines()
    assert [text.partition(": ")[0] for text in (first, second)] == files
    assert re.fullmatch(r"student micro, \d+\.\d KB", first.partition(": ")[2])
    found = [re.fullmatch(line, text) for text in steps]
    assert all(found), result.stderr
    said = [("2", "micro"), ("2", "micro-l"), ("4", "micro"), ("4", "micro-l")]
    assert [(match[1], match[2]) for match in found] == said
    log = [json.loads(text) for text in (tmp_path / "run" / LOG).read_text().splitlines()]
    for match in found:
        scores = next(scores for scores in log if scores["step"] == int(match[1]))
        dev = [scores[f"{match[2]}/{name}/ccc {d}"] for name in ("first", "second") for d in OUTPUTS]
        assert float(match[3]) == pytest.approx(np.mean(dev), abs=6e-4)
    _, metadata, _ = reference.load_student(files[0])
    about = {key: metadata[key] for key in ("teacher", "training_data", "licence", "teacher_licence", "student")}
    expected = {"teacher": "tiny 1", "training_data": "tones", "licence": "Apache-2.0", "teacher_licence": "MIT"}
    assert about == expected | {"student": "micro"}


def test_the_weights_kept_are_the_best_and_have_the_dev_ccc_that_they_claim(data, tmp_path):
    """The reference, which shares no code with torch, on the labels of the dev clips that the run wrote."""
    assert distil(data, tmp_path / "run").exit_code == 0
    arrays, metadata, network = reference.load_student(tmp_path / "run" / "micro.safetensors")
    rows = read_manifest(tmp_path / "run" / "dev.csv")
    assert {row.speaker for row in rows} <= {"s0", "s3", "s6"} and len(rows) == 6
    answers = [reference.forward(soundfile.read(row.path, dtype="float32")[0], arrays, network)[1] for row in rows]
    claimed = json.loads(metadata["dev_ccc"])
    for d, name in enumerate(OUTPUTS):
        found = [
            concordance_cc(
                [row.emotion[d] for row in rows if row.column("corpus") == one],
                [answer[d] for row, answer in zip(rows, answers, strict=True) if row.column("corpus") == one],
            )
            for one in ("first", "second")
        ]
        assert claimed[name] == pytest.approx(np.mean(found), abs=2e-3)
    log = [json.loads(text) for text in (tmp_path / "run" / LOG).read_text().splitlines()]
    merits = [np.mean([value for key, value in line.items() if "/ccc " in key]) for line in log]
    assert int(metadata["step"]) == log[int(np.argmax(merits))]["step"]


def test_dev_speakers_are_not_learnt_from_nor_what_was_made_of_them(data, tmp_path):
    result = distil(data, tmp_path / "run", "--steps", 1, corpora=("first,second", "away"))
    assert result.exit_code == 0, result.output
    (index,) = (tmp_path / "run" / "audio").glob("*.json")
    assert json.loads(index.read_text())["corpus"] == [0] * 12 + [1] * 6
    assert {row.path.parent.name for row in read_manifest(tmp_path / "run" / "dev.csv")} == {"first", "away"}


def test_a_speaker_inside_and_outside_the_dev_fold_is_refused(data, tmp_path):
    corpus(tmp_path / "voices", 4, 9, lambda number: "")
    said = one_sentence(distil(data, tmp_path / "run", corpora=(f"first,{tmp_path}/voices",)))
    assert said == (
        "first: speaker s0 is in the fold 0 and outside it. "
        "Give all rows of a speaker one fold, including variants of the clips."
    )


def test_where_no_corpus_has_folds_speakers_are_dealt_and_none_is_on_both_sides(data, tmp_path):
    """Variants of a corpus have their own speakers, which must not change the folds of the others."""
    names = [f"s{number}" for number in range(45)]
    for name, speakers in (("one", names[5:]), ("made", names)):
        (tmp_path / name).mkdir()
        rows = "".join(f"{data}/first/{n % 9}.wav,{0.001 * n:.3f},{s}\n" for n, s in enumerate(speakers))
        (tmp_path / name / "manifest.csv").write_text("file,start,speaker\n" + rows)
    dealt = Corpus("one", (str(tmp_path / "one"), str(tmp_path / "made")), is_dealt=True)
    dev, learnt = dealt.dev("0"), dealt.learnt("0")
    assert {row.speaker for row in dev} and not {row.speaker for row in dev} & {row.speaker for row in learnt}
    assert {row.path for row in dev} <= {data / "first" / f"{number}.wav" for number in range(9)}
    assert len({row.speaker for row in learnt}) == 45 - 3


def test_folders_of_audio_are_learnt_from_with_a_sentence(data, tmp_path):
    (tmp_path / "plain").mkdir()
    for path in (data / "first").glob("*.wav"):
        (tmp_path / "plain" / path.name).write_bytes(path.read_bytes())
    result = distil(data, tmp_path / "run", "--steps", 1, corpora=(str(tmp_path / "plain"),))
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == (
        "no corpus has a column fold: one in 20 speakers, or files where no speaker is known, is held out for "
        "selecting weights"
    )
    assert [row.path.name for row in read_manifest(tmp_path / "run" / "dev.csv")] == ["0.wav"]


def small_task(data: Path, folder: Path, *students: str, config: DistilConfig = TINY) -> Online:
    """Students on the clips of a device, without ring."""
    labeller = Labeller(load_teacher(str(data / "tiny1.safetensors")))
    pool = load_pool([Source("first", read_manifest(data / "first"))], folder / "audio", "cpu", silently)
    signals = [np.round(s * 20000).astype(np.int16) for s in 0.5 * np.random.default_rng(0).standard_normal((4, 8000))]
    truth = np.random.default_rng(1).random((4, 3)).astype(np.float32)
    dev = [Dev("first", [], signals, truth), Dev("away", [], signals, 1 - truth, left_out=True)]
    draw = composer(pool, labeller, config, "cpu")
    moments = embedding_moments(draw, folder / "embedding.npy")
    distortion = Distortion(None, None)
    return Online(
        config, [Pupil(name, NETWORKS[name]) for name in students], draw, distortion, dev, folder, moments, {}
    )


NETWORKS = {f"micro{channels}": micro(f"micro{channels}", channels, 32) for channels in (8, 12)}


def trained(data: Path, folder: Path, *students: str) -> Online:
    task = small_task(data, folder, *students)
    make_loop(folder, task, "key").run(silently)
    return task


def test_students_beside_each_other_get_the_weights_of_each_alone(data, tmp_path):
    both = trained(data, tmp_path / "both", "micro8", "micro12")
    for name in ("micro8", "micro12"):
        alone = trained(data, tmp_path / name, name)
        assert len(alone.learners) == 1
        for (key, one), other in zip(
            alone.learners[name].net.state_dict().items(), both.learners[name].net.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=f"{name} {key}")
        one, other = (reference.load_student(tmp_path / folder / f"{name}.safetensors") for folder in (name, "both"))
        assert one[1]["step"] == other[1]["step"]


def test_each_students_weights_are_kept_by_its_own_merit(data, tmp_path):
    task, kept = small_task(data, tmp_path, "micro8", "micro12"), []
    merits = iter([(0.1, 0.5), (0.3, 0.4), (0.2, 0.6)])

    def evaluate() -> dict[str, float]:
        values = dict(zip(("micro8", "micro12"), next(merits), strict=True))
        return {
            f"{name}/{one}/{kind} {d}": (value if (one, kind) == ("first", "ccc") else 1 - value)
            for name, value in values.items()
            for one in ("first", "away")
            for kind in ("ccc", "r")
            for d in OUTPUTS
        }

    task.evaluate = evaluate
    task.keep = lambda line, part: kept.append((line["step"], part))
    make_loop(tmp_path, task, "key").run(silently)
    assert kept == [(2, "micro8"), (2, "micro12"), (4, "micro8"), (6, "micro12")]


def test_clips_that_are_composed_on_the_device_are_new_at_each_step(data, tmp_path):
    task = small_task(data, tmp_path, "micro8")
    batches = [task.draw_batch(step) for step in range(4)]
    assert len({batch.signal.numpy().tobytes() for batch in batches}) == 4
    assert all(torch.equal(task.draw_batch(2).signal, batches[2].signal) for _ in range(2))
    assert {batch.signal.shape[1] for batch in batches} <= {4000, 6400}
    loud = next(iter(task.batches(2)))
    assert torch.equal(loud.label, batches[2].label) and not torch.equal(loud.signal, batches[2].signal)
    assert loud.signal.abs().max() <= 1, "the student gets what a microphone may give"


def test_the_loss_has_the_parts_that_are_asked_for(data, tmp_path):
    label, emotion = torch.rand(8, 3), torch.rand(8, 3)
    found = []
    for number, change in enumerate(({}, {"within": 0.0}, {"decorrelation": 2.0}, {"within": 1.0})):
        task = small_task(data, tmp_path / str(number), "micro8", config=replace(TINY, **change))
        found.append(float(task.emotion_loss(label, emotion)))
    assert len(set(found)) == 4 and found[2] > found[0]
    assert found[0] == pytest.approx((found[1] + found[3]) / 2, abs=1e-5)


def test_an_unreadable_file_in_the_middle_is_left_out_with_a_sentence(data, tmp_path):
    folder = corpus(tmp_path / "odd", 9, 7)
    (folder / "4.wav").write_bytes(b"RIFF and no more")
    (folder / "3.wav").unlink()
    result = distil(data, tmp_path / "run", "--steps", 1, corpora=(str(folder), "first"))
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    assert said[0].startswith(f"left out: {folder}/4.wav: ") and said[1].startswith("step 1, micro: ")
    assert said[-1].endswith("micro.safetensors: student micro, 227.2 KB")
    assert len(said) == 3, "the dev clip that is gone is left out"
    again = distil(data, tmp_path / "run", "--steps", 1, corpora=(str(folder), "first"))
    assert again.exit_code == 0 and again.stderr.splitlines() == [said[0], said[-1]]


def test_ctrl_c_is_130_and_the_same_command_goes_on(data, tmp_path, monkeypatch):
    @contextmanager
    def bar(title: str, *_: object):
        def progress(done: float, total: float, note: str = "") -> None:
            if (title, done) == ("distil", 3):
                raise KeyboardInterrupt

        yield progress

    monkeypatch.setattr("wav2small.cli.progress.progress_bar", bar)
    result = distil(data, tmp_path / "run")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[1:] == ["wav2small: interrupted; the same command resumes from step 3"]
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] == 3
    monkeypatch.undo()
    world.inline(monkeypatch)
    monkeypatch.setattr(command, "DistilConfig", partial(DistilConfig, **DEFAULTS))
    result = distil(data, tmp_path / "run")
    assert result.exit_code == 0 and result.stderr.startswith("step 4, micro: "), result.output
    said = one_sentence(distil(data, tmp_path / "run", "--seed", 2, "--ring", tmp_path / "ring"))
    assert said.startswith(f"{tmp_path}/run: contains a run with seed 1, given 2; key ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--share", "first"), "--share first: give --share emodb=4."),
        (("--share", "first=much"), "--share first=much: 'much' is not a number of 0 or more."),
        (("--share", "first=-1"), "'-1' is not a number of 0 or more."),
        (("--share", "third=1"), "--share third: there are first, second."),
        (("--share", "first=0", "--share", "second=0"), "--share 0 for every corpus leaves nothing to learn from."),
        (("--from", "micro"), "--from micro: give --from micro=runs/first/micro.safetensors."),
        (("--from", "nobody=a.safetensors"), "--from nobody: there are micro."),
        (("--student", "micro", "--student", "micro"), "two students have one name: micro, micro."),
        (("--batch-size", 10), "--batch-size has to be a multiple of --group-size."),
        (("--group-size", 1), "1 is not in the range x>=2"),
        (("--within", 1.5), "1.5 is not in the range 0<=x<=1"),
        (("--reuse", 0.5), "0.5 is not in the range x>=1"),
        (("--steps", 0), "0 is not in the range x>=1"),
    ],
)
def test_a_wrong_call_is_a_usage_error(data, tmp_path, options, words):
    result = distil(data, tmp_path / "run", *options)
    assert result.exit_code == 2 and words in result.stderr, result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--teacher", "nobody"), "unknown teacher 'nobody'."),
        (("--teacher", "gone.safetensors"), "gone.safetensors: "),
        (("--student", "micr"), "unknown student 'micr'. Did you mean 'micro'?"),
        (("--from", "micro=gone.safetensors"), "gone.safetensors: "),
        (("--network", "gone.json"), "gone.json"),
        (("--left-out", "gone.csv"), "gone"),
        (("--noise", "gone.csv"), "gone"),
        (("--dev-fold", "9"), "no corpus has a row in fold 9 for selecting weights. Give another --dev-fold."),
        (("--device", "cuda:77"), "torch has no device 'cuda:77' here."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(data, tmp_path, options, words):
    assert words in one_sentence(distil(data, tmp_path / "run", *options))


def test_a_teacher_without_its_body_is_one_sentence(data, tmp_path, monkeypatch):
    tiny_teacher(tmp_path)
    (tmp_path / "whisper").rename(tmp_path / "moved")
    monkeypatch.setattr("wav2small.train.teachers.hub._from_hub", lambda *_: (_ for _ in ()).throw(OSError("no net")))
    said = one_sentence(distil(data, tmp_path / "run", "--teacher", tmp_path / "tiny1.safetensors"))
    assert str(tmp_path / "whisper") in said


@pytest.mark.parametrize(
    ("corpora", "words"),
    [
        (("gone.csv",), "gone.csv"),
        (("gone",), "gone"),
        (("first", "first"), "two corpora have one name: first, first. Rename a folder or a file."),
    ],
)
def test_a_manifest_that_is_missing_or_there_twice_is_one_sentence(data, tmp_path, corpora, words):
    assert words in one_sentence(distil(data, tmp_path / "run", corpora=corpora))


def test_a_corpus_that_is_learnt_and_left_out_is_one_sentence(data, tmp_path):
    said = one_sentence(distil(data, tmp_path / "run", "--left-out", data / "second"))
    assert said == "two corpora have one name: first, second, second. Rename a folder or a file."


def test_a_corpus_of_the_dev_fold_alone_or_of_no_audio_is_one_sentence(data, tmp_path):
    corpus(tmp_path / "devs", 3, 1, lambda number: 0)
    said = one_sentence(distil(data, tmp_path / "run", corpora=("first", str(tmp_path / "devs"))))
    assert said == "devs: has no row to train on: all are in fold 0."
    folder = corpus(tmp_path / "odd", 9, 7)
    for number in (0, 3, 6):
        (folder / f"{number}.wav").write_bytes(b"no")
    said = one_sentence(distil(data, tmp_path / "run", corpora=(str(folder),)))
    assert said == "odd: none of its 3 dev clips can be read."


@pytest.mark.parametrize("part", ["audio", "shard", "checkpoint"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(data, tmp_path, monkeypatch, part):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if part == "audio":
        monkeypatch.setattr("wav2small.train.online.pool._decode", full)
    if part == "shard":
        monkeypatch.setattr("wav2small.train.online.ring.np.savez", full)
    if part == "checkpoint":
        monkeypatch.setattr(torch, "save", full)
    said = distil(data, tmp_path / "run")
    assert said.exit_code == 1 and "No space left on device" in said.stderr, said.output
    assert said.stderr.count("\n") == 1
    monkeypatch.undo()
    world.inline(monkeypatch)
    monkeypatch.setattr(command, "DistilConfig", partial(DistilConfig, **DEFAULTS))
    result = distil(data, tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line)["step"] for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert lines[-2:] == [2, 4]


def test_students_start_from_weights_and_may_be_data(data, tmp_path):
    (tmp_path / "mine.json").write_text(micro("mine", 8, 32).to_json())
    first = distil(data, tmp_path / "a", "--network", tmp_path / "mine.json", "--steps", 2)
    assert first.exit_code == 0 and f"{tmp_path}/a/mine.safetensors: student mine, " in first.stderr
    start = ("--from", f"mine={tmp_path}/a/mine.safetensors")
    second = distil(data, tmp_path / "b", "--network", tmp_path / "mine.json", *start, "--student", "micro-l")
    assert second.exit_code == 0, second.output
    for name in ("micro-l", "mine"):
        assert f"{tmp_path}/b/{name}.safetensors: student {name}, " in second.stderr
    other = one_sentence(distil(data, tmp_path / "b", "--network", tmp_path / "mine.json", "--student", "micro-l"))
    assert "contains a run with students " in other


def test_help_has_examples():
    assert "Example:\n    wav2small distil open/emodb" in CliRunner().invoke(main, ["distil", "--help"]).output
