"""Static int8 and the CCC that an artefact must keep: real quantisation of small runs, and every refusal."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from random_student import METADATA, random_arrays
from wav2small import load
from wav2small.cli import main
from wav2small.errors import ManifestError, WeightsError
from wav2small.export import artefacts as export
from wav2small.network import reference
from wav2small.network.config import MICRO, OUTPUTS, STUDENT, STUDENTS, Micro
from wav2small.network.probes import voice
from wav2small.network.weights import write_safetensors
from wav2small.tables.manifest import read_manifest

onnx = pytest.importorskip("onnx", reason="needs the extra train")

pytestmark = pytest.mark.slow


def weights(path: Path, config=STUDENT, dev_ccc: float | None = 0.99) -> Path:
    """An untrained student whose answers to voices are spread around .5, as those of a trained one are."""
    stored = METADATA | {"student": config.name}
    if dev_ccc is not None:
        stored["dev_ccc"] = json.dumps(dict.fromkeys(OUTPUTS, dev_ccc))
    arrays = dict(random_arrays(0, config))
    if not (isinstance(config, Micro) and config.integers):
        answers = np.stack([reference.forward(clip, arrays, config)[1] for clip in voices()])
        gain = 0.15 / answers.std(0)
        arrays["out.weight"] = (arrays["out.weight"] * gain[:, None]).astype(np.float32)
        arrays["out.bias"] = ((arrays["out.bias"] - answers.mean(0)) * gain + 0.5).astype(np.float32)
    write_safetensors(path, arrays, stored)
    return path


def voices() -> list[np.ndarray]:
    """Of several levels and lengths."""
    rngs = map(np.random.default_rng, range(8))
    return [np.clip(voice(rng, rng.uniform(0.5, 1.5)) * rng.uniform(0.2, 2), -1, 1) for rng in rngs]


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """The voices, and a clip that is shorter than a window."""
    folder = tmp_path_factory.mktemp("speech")
    for number, signal in enumerate(voices()):
        soundfile.write(folder / f"{number}.wav", signal, 16000)
    soundfile.write(folder / "short.wav", 0.1 * np.ones(30), 16000)
    return folder


def labels(path: Path, speech: Path, model: Path) -> Path:
    """What the network itself says about the speech, so that its CCC is 1."""
    answers = load(model, backend="numpy")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *OUTPUTS])
        for clip in sorted(speech.glob("[0-9].wav")):
            writer.writerow([clip, *answers(soundfile.read(clip)[0])])
    return path


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.parametrize("config", [STUDENT, STUDENTS["wav2small-17k"], MICRO], ids=lambda config: config.name)
def test_the_static_form_rounds_everything_but_front_end_and_pooling(speech, tmp_path, config):
    best = weights(tmp_path / "best.safetensors", config, dev_ccc=0.7)
    dev = read_manifest(labels(tmp_path / "dev.csv", speech, best))
    artefacts = export.export(best, tmp_path / "out", dev=dev, calibration=read_manifest(speech))
    fp32, int8 = (onnx.load(artefact.path) for artefact in artefacts)
    assert [artefact.precision for artefact in artefacts] == ["fp32", "int8"]
    made_by = {node.output[0]: node for node in int8.graph.node}
    read_from = {node.name: {made_by[i].op_type for i in node.input if i in made_by} for node in int8.graph.node}
    for node in fp32.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            in_the_middle = node.name in ("value", "score") or node.name.startswith(("conv", "point", "depth", "lin"))
            assert ("DequantizeLinear" in read_from[node.name]) == in_the_middle, node.name
    assert Counter(node.op_type for node in int8.graph.node)["QuantizeLinear"] > 5
    assert artefacts[1].errors.log_mel == 0 < artefacts[1].errors.embedding
    assert artefacts[1].ccc is not None and min(artefacts[1].ccc) > 0.68
    assert artefacts[0].ccc is not None and min(artefacts[0].ccc) > 0.999


def test_what_loses_ccc_is_refused_and_nothing_is_written(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=0.99)
    dev = labels(tmp_path / "dev.csv", speech, best)
    rows = list(csv.reader(dev.open()))
    rows[1][3], rows[2][3] = rows[2][3], rows[1][3]
    with dev.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    result = command(best, "-o", tmp_path / "out", "--dev", dev)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "fp32: CCC of valence on the dev segments is " in result.stderr
    assert "and was 0.990 in training; at most 0.02 may be lost; nothing was written" in result.stderr


def test_an_int8_file_that_loses_too_much_is_refused(speech, tmp_path, monkeypatch):
    """Scales that were set by a tone a thousandth as loud as speech clip everything."""
    best = weights(tmp_path / "best.safetensors", MICRO)
    dev = labels(tmp_path / "dev.csv", speech, best)
    monkeypatch.setattr("wav2small.audio.read.is_speech", lambda signal: True)
    (tmp_path / "quiet").mkdir()
    soundfile.write(tmp_path / "quiet" / "hum.wav", 1e-3 * np.sin(np.arange(16000) / 50), 16000)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--calibrate", tmp_path / "quiet")
    assert result.exit_code == 1 and "int8: CCC of " in result.stderr and not (tmp_path / "out").exists()


def test_silence_calibrates_nothing(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors")
    (tmp_path / "silence").mkdir()
    soundfile.write(tmp_path / "silence" / "0.wav", np.zeros(16000), 16000)
    dev = labels(tmp_path / "dev.csv", speech, best)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--calibrate", tmp_path / "silence")
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "calibration: no speech in 1 clips, so no scale can be set. Give speech." in result.stderr


def test_the_command_shows_the_ccc(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=0.95)
    dev = labels(tmp_path / "dev.csv", speech, best)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--format", "json")
    assert result.exit_code == 0, result.output
    fp32, int8 = ([float(row[f"dev CCC {name}"]) for name in OUTPUTS] for row in json.loads(result.stdout))
    assert fp32 == [1.0, 1.0, 1.0] and min(int8) > 0.93


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--calibrate", "SPEECH"], 2, "--calibrate needs --dev"),
        (["--ship", "--dev", "DEV"], 2, "Give one of -o FOLDER and --ship"),
        (["--dev", "SPEECH"], 1, "has no label. Label it first: wav2small label."),
        (["--dev", "nowhere.csv"], 1, "nowhere.csv: cannot be opened"),
    ],
)
def test_wrong_use_is_one_sentence(speech, tmp_path, options, code, sentence):
    best = weights(tmp_path / "best.safetensors")
    places = {"SPEECH": speech, "DEV": tmp_path / "dev.csv"}
    labels(places["DEV"], speech, best)
    result = command(best, "-o", tmp_path / "out", *[places.get(option, option) for option in options])
    assert result.exit_code == code and sentence in result.stderr, result.output
    assert not (tmp_path / "out").exists()


def test_weights_without_a_dev_ccc_have_none_to_keep(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=None)
    dev = read_manifest(labels(tmp_path / "dev.csv", speech, best))
    with pytest.raises(WeightsError, match="the weights have no dev_ccc, so there is none to keep"):
        export.export(best, tmp_path / "out", dev=dev)
    with pytest.raises(WeightsError, match="a static int8 form is held to its CCC alone; give labels"):
        export.export(best, tmp_path / "out", calibration=dev)
    gone = [*dev, type(dev[0])("gone.wav", speech / "gone.wav", emotion=dev[0].emotion)]
    with pytest.raises(ManifestError, match=r"gone\.wav: there is no such file"):
        export.export(weights(best), tmp_path / "out", dev=gone)


def test_integers_by_training_are_not_calibrated_again(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", STUDENTS["micro-int8"])
    segments = read_manifest(speech)
    with pytest.raises(WeightsError, match="are integers by training and need no calibration; leave it out"):
        export.export(best, tmp_path / "out", dev=segments, calibration=segments)
