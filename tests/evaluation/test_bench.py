"""What bench counts is exact, what it measures belongs to the model alone, and its CCC is that of evaluate."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from random_student import NETWORKS, noise, random_arrays
from wav2small.cli import main
from wav2small.errors import WeightsError
from wav2small.evaluation import bench, macs
from wav2small.evaluation.score import own_truth
from wav2small.export.artefacts import graphs
from wav2small.network.config import Emotion
from wav2small.network.frontend import mel_filterbank
from wav2small.network.micro import MICRO
from wav2small.network.wav2small import WAV2SMALL
from wav2small.network.weights import read_index, read_safetensors, resolve, sha256, write_safetensors
from wav2small.runtime.model import load
from wav2small.tables.manifest import read_manifest
from wav2small.tables.table import read_table, write_table

onnx = pytest.importorskip("onnx", reason="needs the extra train")
TensorProto, helper = onnx.TensorProto, onnx.helper

FIELDS = {"name", "precision", "parameters", "macs_per_5s", "tokens_per_second", "bytes", "peak_bytes", "p50_ms_5s"}
FIELDS |= {"load_ms", "ccc", "cpu", "cores", "onnxruntime", "rtf", "p95_ms_60s", "p50_ms_1s", "trained_parameters"}
LEVELS = np.linspace(0.02, 0.9, 12)


def run(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """12 clips of 6 speakers, louder and louder, with labels; one has none."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, level in enumerate(LEVELS):
        soundfile.write(folder / f"{number}.wav", noise(8000, number, level / 5), 16000)
        truth = {"arousal": level, "dominance": level / 2, "valence": 1 - level} if number else {}
        rows.append({"file": f"{number}.wav", "speaker": "uvwxyz"[number % 6], **truth})
    write_table(rows, folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def measured(corpus, tmp_path_factory):
    """One real run of both files that ship: what was shown, and the rows that were written."""
    folder = tmp_path_factory.mktemp("measured")
    options = ("--runs", 2, "--on", corpus, "-o", folder / "b.jsonl", "--plot", folder / "b.png")
    result = run("wav2small", *options)
    assert result.exit_code == 0, result.output
    return result.stdout, [json.loads(line) for line in (folder / "b.jsonl").read_text().splitlines()], folder


def model(nodes: list, constants: dict[str, list[int]]) -> bytes:
    """An ONNX file from ``signal`` (batch, samples) to ``out``, with float constants of these shapes."""
    stored = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.ones(math.prod(shape)))
        for name, shape in constants.items()
    ]
    stored += [helper.make_tensor("axis_1", TensorProto.INT64, [1], [1])]
    stored += [helper.make_tensor("to_matrix", TensorProto.INT64, [3], [0, 10, -1])]
    signal = helper.make_tensor_value_info("signal", TensorProto.FLOAT, ["batch", "samples"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [signal], [out], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


UNSQUEEZE = helper.make_node("Unsqueeze", ["signal", "axis_1"], ["channel"])
MATRIX = helper.make_node("Reshape", ["signal", "to_matrix"], ["matrix"])


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        (  # 98 outputs of 4 channels, 5 products each
            [UNSQUEEZE, helper.make_node("Conv", ["channel", "w"], ["out"], strides=[1], pads=[1, 1])],
            {"w": [4, 1, 5]},
            98 * 4 * 5,
        ),
        (  # 6 channels in 3 groups of 2: each output sees 2 channels
            [
                UNSQUEEZE,
                helper.make_node("Conv", ["channel", "w"], ["six"]),
                helper.make_node("Conv", ["six", "v"], ["out"], group=3, strides=[2]),
            ],
            {"w": [6, 1, 1], "v": [6, 2, 3]},
            100 * 6 + 49 * 6 * 2 * 3,
        ),
        ([MATRIX, helper.make_node("MatMul", ["w", "matrix"], ["out"])], {"w": [7, 10]}, 7 * 10 * 10),
        (  # the product of two constants costs nothing
            [
                MATRIX,
                helper.make_node("MatMul", ["v", "w"], ["vw"]),
                helper.make_node("MatMul", ["vw", "matrix"], ["out"]),
            ],
            {"v": [3, 1000], "w": [1000, 10]},
            3 * 10 * 10,
        ),
        ([helper.make_node("Gemm", ["signal", "w"], ["out"], transB=1)], {"w": [3, 100]}, 3 * 100),
        (
            [helper.make_node("Gemm", ["signal", "w"], ["out"], transA=1)],
            {"w": [1, 8]},
            100 * 8,
        ),
        ([helper.make_node("Mul", ["signal", "signal"], ["out"])], {}, 0),
    ],
)
def test_macs_of_small_graphs_are_exact(nodes, constants, expected):
    assert macs.count_macs(macs.measured(model(nodes, constants), samples=100)) == expected


def test_what_cannot_be_counted_has_no_count():
    einsum = helper.make_node("Einsum", ["signal", "signal"], ["out"], equation="ij,ij->i")
    assert macs.count_macs(macs.measured(model([einsum], {}))) is None


def test_tokens_are_what_the_last_softmax_is_over():
    nodes = [
        UNSQUEEZE,
        helper.make_node("Softmax", ["channel"], ["first"], axis=1),
        helper.make_node("Conv", ["first", "w"], ["score"], strides=[160]),
        helper.make_node("Softmax", ["score"], ["out"], axis=2),
    ]
    assert macs.tokens_per_second(macs.measured(model(nodes, {"w": [4, 1, 160]}))) == 100
    assert macs.tokens_per_second(macs.measured(model(nodes[:1], {}))) is None


def test_macs_of_the_student_are_those_of_the_paper_with_the_front_end_as_it_is_computed():
    """375.5 million for layers 3 to 13; 2,499 frames, of which 1,250 after the pool."""
    network = 2499 * 26 * 13 * 9 * (1 + 2 * 13) + 4 * 1250 * 13 * 13 * 9 * 13 + 2 * 1250 * 169**2 + 169 * 3
    papers_front_end = 2499 * 33 * (2 * 64 + 26)
    assert network + papers_front_end == 388_220_791
    heard = np.count_nonzero(mel_filterbank(WAV2SMALL.frontend).any(1))
    front_end = 2499 * 2 * heard * (64 + 26)
    for precision in ("fp32", "int8"):
        graph = macs.measured(resolve(f"wav2small:{precision}").read_bytes())
        assert macs.count_macs(graph) == network + front_end
        assert macs.tokens_per_second(graph) == 250
    assert WAV2SMALL.num_trained() == 67_395
    assert MICRO.num_trained() == MICRO.num_parameters()


def test_torch_counts_as_many_macs_for_the_papers_form():
    torch = pytest.importorskip("torch")
    counter = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False)
    from wav2small.train.students import build

    with counter, torch.no_grad():
        build("wav2small").eval()(torch.zeros(1, 80000))
    assert counter.get_total_flops() == 2 * 388_220_791


@pytest.mark.slow
def test_every_student_is_counted():
    counts = {}
    for name, config in NETWORKS.items():
        made = [macs.measured(form.SerializeToString()) for form in graphs(random_arrays(0, config), config).values()]
        (counts[name],) = {macs.count_macs(graph) for graph in made}
        tokens = math.ceil(config.frontend.num_frames(80000) / config.frames_a_token)
        assert {macs.tokens_per_second(graph) for graph in made} == {tokens / 5}
    assert counts["wav2small"] == counts["wav2small-running"]
    assert 0 < counts["micro"] < counts["wav2small-17k"] < counts["wav2small"]


def test_micro_has_a_tenth_of_the_macs_of_wav2small_and_its_dft_takes_two_steps():
    fp32, integers = (macs.count_macs(macs.measured(resolve(f"micro:{p}").read_bytes())) for p in ("fp32", "int8"))
    assert fp32 == integers
    frames, tokens, blocks = 498, 249, 512 // 16 // 2 + 1
    network = tokens * 64 * (40 * 5 + 5 * (5 + 64)) + tokens * 2 * 64 * 128 + 128 * 3
    front_end = frames * (blocks * 2 * 400 + blocks * 32 * 32 + blocks * 32 * 40)
    assert fp32 == network + front_end < 10e6 * 5
    assert 9.9 * fp32 < macs.count_macs(macs.measured(resolve("wav2small").read_bytes()))


def test_all_take_their_turn_in_every_round():
    calls = []

    def answerer(name: str, dur: float = 0.0):
        def answer(signal):
            calls.append((name, len(signal) // 16000))
            time.sleep(dur)

        return answer

    times = bench.time_rounds([answerer("fast"), answerer("slow", 0.01)], runs=3)
    a_turn = [(name, dur) for name in ("fast", "slow") for dur in bench.DURATIONS]
    assert calls == a_turn * 4
    assert times.shape == (2, len(bench.DURATIONS), 3)
    assert (times[1] >= 10).all() and np.median(times[0]) < 10


def test_percentiles_are_over_the_rounds():
    times = np.arange(1, 102)[None] * np.array([1.0, 10.0, 100.0, 1000.0])[:, None]
    found = bench.time_columns(times)
    assert (found["p50_ms_1s"], found["p95_ms_1s"], found["p50_ms_60s"]) == (51, 96, 51000)
    assert found["rtf"] == found["p50_ms_5s"] / 5000 == pytest.approx(0.102)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="not measured here")
def test_peak_memory_is_the_models_own_however_large_the_parent_is():
    one = bench.Candidate("wav2small", "fp32", resolve("wav2small"))
    alone = bench.peak_growth(one)
    activation = 13 * 26 * 2499 * 4
    assert 2 * activation < alone < 10 * activation
    ballast = np.ones(50_000_000)
    assert bench.peak_growth(one) == pytest.approx(alone, abs=3e6)
    assert ballast[-1] == 1


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak is forgotten here")
def test_a_peak_that_is_over_is_forgotten():
    ballast = np.ones(30_000_000)
    del ballast
    before = bench.peak_rss()
    bench.forget_peak()
    assert bench.peak_rss() < before - 200e6


@pytest.mark.skipif(sys.platform == "win32", reason="not measured here")
def test_a_child_that_fails_is_an_error_not_a_number(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(
        bench.Wav2SmallError, match=r"gone: the child that measures its memory ended with 1: .*WeightsE"
    ):
        bench.peak_growth(bench.Candidate("gone", "fp32", tmp_path / "a.onnx"))


@pytest.mark.slow
def test_a_row_says_everything_and_agrees_with_the_index(measured):
    _, rows, _ = measured
    index = {row["precision"]: row for row in read_index() if re.fullmatch(r"wav2small(-int8)?\.onnx", row["file"])}
    assert [(row["name"], row["precision"]) for row in rows] == [("wav2small", "fp32"), ("wav2small", "int8")]
    for row in rows:
        assert row.keys() >= FIELDS
        for key in ("bytes", "parameters", "sha256", "version"):
            assert row[key] == index[row["precision"]][key]
        assert 0 < row["p50_ms_1s"] <= row["p95_ms_1s"] < row["p50_ms_60s"]
        assert row["load_ms"] > 0 and row["runs"] == 2 and row["threads"] == 1
        assert row["on"]["corpus0"]["left_out"] == {"no annotation": 1}


@pytest.mark.slow
def test_the_table_shows_the_rows(measured):
    shown, rows, folder = measured
    title, header, first, *_ = shown.splitlines()
    assert rows[0]["cpu"] in title
    assert header.split()[:4] == ["name", "precision", "runtime", "parameters"]
    assert first.split()[:8] == ["wav2small", "fp32", "onnxruntime", "72477", "389.5", "250", "296.7", first.split()[7]]
    assert f"{rows[1]['ccc']['corpus0']['valence']['value']:.3f} [" in shown
    assert (folder / "b.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(folder)) == ["b.jsonl", "b.png"]


@pytest.mark.slow
def test_the_ccc_is_that_of_evaluate(measured, corpus, tmp_path):
    _, rows, _ = measured
    file = tmp_path / "scores.json"
    result = CliRunner().invoke(main, ["evaluate", "wav2small", "wav2small:int8", "--on", str(corpus), "-o", str(file)])
    assert result.exit_code == 0, result.output
    scores = [score for score in json.loads(file.read_text())["scores"] if score["statistic"] == "ccc"]
    assert len(scores) == 6
    for score in scores:
        ours = rows[score["predictor"] == "wav2small:int8"]["ccc"]["corpus0"][score["dimension"]]
        assert ours == {key: pytest.approx(score[key], abs=1e-5) for key in ("value", "low", "high", "n", "speakers")}
    assert rows[0]["ccc"] != rows[1]["ccc"]


@pytest.fixture
def quick(monkeypatch):
    """Nothing takes long: no child, no long signals, one load."""
    monkeypatch.setattr(bench, "peak_growth", lambda one: 1_000_000)
    monkeypatch.setattr(bench, "DURATIONS", (1, 5))
    monkeypatch.setattr(bench, "LOADS", 1)


@pytest.mark.slow
def test_every_shipped_onnx_is_measured_by_default_and_every_format_has_the_same_rows(quick):
    shown = {name: run("--runs", 1, "--format", name).stdout for name in ("json", "jsonl", "csv")}
    ships = {(row["name"], row["precision"]) for row in read_index() if row["file"].endswith(".onnx")}
    rows = [json.loads(line) for line in shown["jsonl"].splitlines()]
    assert {(row["name"], row["precision"]) for row in rows} == ships
    assert [row.keys() for row in json.loads(shown["json"])] == [row.keys() for row in rows]
    assert set(shown["csv"].splitlines()[0].split(",")) == set(rows[0])


def test_of_what_ships_in_one_precision_only_that_is_measured(monkeypatch):
    index = [{"name": name, "precision": p, "file": f"{name}.onnx"} for name, p in (("a", "fp32"), ("b", "int8"))]
    monkeypatch.setattr(bench, "present", lambda: index)
    monkeypatch.setattr(bench, "locate", lambda name, suffix: Path(name))

    def found(*arguments):
        return [(one.name, one.precision) for one in bench.candidates(*arguments)]

    assert found(()) == [("a", "fp32"), ("b", "int8")]
    assert found(["b"]) == [("b", "int8")]
    assert found(["a:int8"]) == [("a", "int8")]


def test_a_file_is_measured_as_it_is_and_its_metadata_say_what(quick, tmp_path):
    (row,) = bench.rows([str(copied(tmp_path))], runs=1)
    assert (row["name"], row["precision"], row["parameters"]) == ("mine.onnx", "int8", 72_477)
    assert row["sha256"] == sha256(tmp_path / "mine.onnx")


def test_the_bar_is_told_of_every_step(quick, corpus):
    told = []
    bench.rows(["wav2small:fp32"], runs=3, tell=lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(1, 6)]


@pytest.fixture(autouse=True)
def threads():
    """Those of torch, which bench brings down to one."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else os.cpu_count()
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(before)


def test_torch_computes_the_same_network(quick):
    pytest.importorskip("torch")
    ours, torch_row = bench.rows(["wav2small:fp32"], ["torch"], runs=1)
    assert (torch_row["name"], torch_row["runtime"], torch_row["macs_per_5s"]) == ("wav2small", "torch", None)
    assert torch_row["parameters"] == ours["parameters"] == 72_477
    assert torch_row["trained_parameters"] == ours["trained_parameters"] == 67_395
    answer = bench.load_torch(resolve("wav2small", ".safetensors")).run(noise(16000))
    assert answer == pytest.approx(load("wav2small")(noise(16000)), abs=1e-4)


def test_torch_refuses_arrays_that_are_not_the_networks(tmp_path):
    pytest.importorskip("torch")
    arrays, metadata = read_safetensors(resolve("wav2small", ".safetensors"))
    write_safetensors(tmp_path / "a.safetensors", arrays | {"more": np.zeros(1, "f4")}, metadata)
    with pytest.raises(WeightsError, match="left over: more"):
        bench.load_torch(tmp_path / "a.safetensors")


def test_openvino_computes_the_same_file(quick):
    pytest.importorskip("openvino")
    rows = bench.rows(["wav2small"], ["openvino"], runs=1)
    assert [(row["runtime"], row["precision"]) for row in rows[2:]] == [("openvino", "fp32"), ("openvino", "int8")]
    assert rows[2]["macs_per_5s"] == rows[0]["macs_per_5s"]
    answer = bench.load_openvino(resolve("wav2small")).run(noise(16000))
    assert answer == pytest.approx(load("wav2small")(noise(16000)), abs=1e-4)


@pytest.mark.slow
def test_opensmile_is_timed_and_not_scored(quick, corpus):
    pytest.importorskip("opensmile")
    segments = read_manifest(corpus)
    rows = bench.rows(["wav2small:fp32"], ["opensmile"], [bench.Corpus("c", segments, own_truth(segments))], 1)
    assert rows[1]["name"] == "eGeMAPSv02" and rows[1]["p50_ms_5s"] > rows[0]["p50_ms_5s"]
    assert set(rows[0]["ccc"]) == {"c"} and rows[1]["ccc"] == {} and rows[1]["bytes"] is None


def test_the_teacher_is_timed_and_scored(quick, corpus, monkeypatch):
    """A double that says how loud it is, with a body of 6 weights and one head of 2."""
    torch = pytest.importorskip("torch")
    teachers = pytest.importorskip("wav2small.train.teachers")
    linear = torch.nn.Linear
    double = SimpleNamespace(version="7", label=lambda signals: [hear_level(signal) for signal in signals])
    double.body, double.heads = SimpleNamespace(encoder=linear(2, 2)), SimpleNamespace(heads=[linear(1, 1)])
    monkeypatch.setattr(teachers, "load_teacher", lambda name: double)
    segments = read_manifest(corpus)
    rows = bench.rows(["wav2small:fp32"], ["teacher"], [bench.Corpus("c", segments, own_truth(segments))], 1)
    assert (rows[1]["name"], rows[1]["version"], rows[1]["parameters"]) == ("open", "7", 8)
    assert rows[1]["ccc"]["c"]["arousal"]["value"] > 0.99


def hear_level(signal: np.ndarray) -> Emotion:
    level = 5 * float(signal.std())
    return Emotion(level, level / 2, 1 - level)


def test_the_labels_of_a_table_are_the_truth_and_other_clips_are_not_heard(quick, corpus, tmp_path):
    rows = [row | {"file": str(corpus / row["file"])} for row in read_table(corpus / "manifest.csv")[1:7]]
    write_table(rows, tmp_path / "labels.csv")
    shown = run("wav2small", "--on", corpus, "--truth", tmp_path / "labels.csv", "--format", "json", "--runs", 1)
    assert shown.exit_code == 0, shown.output
    for row in json.loads(shown.stdout):
        assert row["ccc"]["corpus0"]["arousal"]["n"] == 6
        assert row["on"]["corpus0"]["left_out"] == {"no truth": 6}
        assert row["on"]["corpus0"]["truth_sha256"] == sha256(tmp_path / "labels.csv")


@pytest.mark.slow
def test_against_two_truths_each_clip_is_heard_once(quick, corpus, tmp_path, monkeypatch):
    write_table(read_table(corpus / "manifest.csv")[1:7], corpus / "labels.csv")
    asked: list[int] = []
    hear = bench.answer_segments
    monkeypatch.setattr(bench, "answer_segments", lambda s, p: (asked.append(len(s)), hear(s, p))[1])
    truths = ("--truth", "manifest", "--truth", corpus / "labels.csv")
    options = ("--on", corpus, *truths, "--format", "json", "--runs", 1)
    (row,) = json.loads(run("wav2small:fp32", *options).stdout)
    assert asked == [11, 0]
    first, second = row["ccc"]["corpus0, manifest"]["arousal"], row["ccc"]["corpus0, labels"]["arousal"]
    assert (first["n"], second["n"]) == (11, 6)
    assert row["on"]["corpus0, labels"]["truth"] == "labels"
    (alone,) = json.loads(run("wav2small:fp32", *options[:2], *truths[2:], *options[6:]).stdout)
    assert alone["ccc"]["corpus0"]["arousal"] == second


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(bench, "time_rounds", lambda *_: pytest.fail("timed in spite of a wrong call"))


def copied(folder: Path) -> Path:
    (folder / "mine.onnx").write_bytes(resolve("wav2small:int8").read_bytes())
    return folder / "mine.onnx"


def damaged(folder: Path) -> Path:
    content = resolve("wav2small").read_bytes()
    (folder / "damaged.onnx").write_bytes(content[: len(content) // 2])
    return folder / "damaged.onnx"


def test_each_wrong_call_is_one_sentence(no_work, corpus, tmp_path):
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    soundfile.write(unlabelled / "a.wav", noise(8000), 16000)
    calls = {
        (
            "wav2smal",
        ): r"'wav2smal': no such weights. Did you mean 'wav2small'\? Known: .*; or give the path of a file.",
        ("open",): "open: does not ship as .onnx. These ship: open .safetensors.",
        (
            tmp_path / "gone.onnx",
        ): ".*gone.onnx: no such file; give the path of ONNX or safetensors, or a shipped name, .*",
        (damaged(tmp_path),): r".*damaged.onnx: ONNX Runtime cannot load it \(.*\); export or fetch it again",
        ("--on", unlabelled): r"nothing to score: none of 1 rows has a truth \(no norm: 1\). Give a table of labels .*",
        ("--on", tmp_path / "gone"): ".*gone: cannot be opened: No such file or directory",
        ("-o", tmp_path / "gone" / "a.csv"): ".*a.csv: cannot be written: there is no folder .*; create it first",
        ("--on", corpus, "--plot", tmp_path / "gone" / "a"): ".*: cannot be written: there is no folder .*",
        (copied(tmp_path), "--with", "torch"): "torch runs students that ship, and none of the models is one; .*",
    }
    for call, sentence in calls.items():
        result = run(*call)
        assert (result.exit_code, result.stdout) == (1, ""), call
        assert re.fullmatch(f"wav2small: {sentence}\n", result.stderr), result.stderr


def test_a_wrong_option_is_a_usage_error(no_work, corpus):
    calls = {
        ("--plot", "a.png"): "--plot needs --on: it shows the CCC, and without a manifest there is none.",
        ("--truth", "norms"): "--truth needs --on.",
        (
            "--with",
            "opensmil",
        ): "'opensmil' is not to be measured. Did you mean 'opensmile'? Known: opensmile, openvino, ",
        ("--on", corpus, "--on", corpus): "two of the manifests have one name: corpus0, corpus0.",
        ("--runs", "0"): "--runs",
    }
    for call, words in calls.items():
        result = run(*call)
        assert result.exit_code == 2 and words in " ".join(result.stderr.split()), result.stderr


@pytest.mark.parametrize(
    ("package", "options", "sentence"),
    [
        ("torch", ("--with", "teacher"), "teacher needs torch, not installed: pip install 'wav2small[train]'"),
        (
            "opensmile",
            ("--with", "opensmile"),
            "opensmile needs opensmile, not installed: pip install opensmile",
        ),
        ("openvino", ("--with", "openvino"), "openvino needs openvino, not installed: pip install openvino"),
        (
            "matplotlib",
            ("--plot", "a.png"),
            "--plot needs matplotlib, not installed: pip install 'wav2small[plot]'",
        ),
    ],
)
def test_a_package_that_is_not_there_is_said_before_the_work(no_work, corpus, monkeypatch, package, options, sentence):
    found = bench.find_spec
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == package else found(name))
    result = run("--on", corpus, *options)
    assert (result.exit_code, result.stderr) == (1, f"wav2small: {sentence}\n")


def test_without_onnx_the_rest_is_measured_and_a_line_says_what_is_not(monkeypatch):
    monkeypatch.setattr(bench, "DURATIONS", (1, 5))
    monkeypatch.setattr(bench, "LOADS", 1)
    found = bench.find_spec
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "onnx" else found(name))
    result = run("micro", "--runs", 1, "--format", "json")
    assert result.exit_code == 0, result.output
    for row in json.loads(result.stdout):
        assert (row["macs_per_5s"], row["tokens_per_second"], row["peak_bytes"]) == (None, None, None)
        assert row["parameters"] == 53267 and row["p50_ms_5s"] > 0 and row["version"]
    note = "MACs, tokens/s and peak MB are not measured: they need the package onnx: pip install onnx\n"
    assert result.stderr == note


def test_a_run_that_fails_leaves_the_file_as_it_was(quick, monkeypatch, tmp_path):
    (tmp_path / "b.jsonl").write_text("the last run\n")

    def interrupt(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "time_rounds", interrupt)
    assert run("-o", tmp_path / "b.jsonl").exit_code == 130
    assert (tmp_path / "b.jsonl").read_text() == "the last run\n"
    assert os.listdir(tmp_path) == ["b.jsonl"]


def test_a_plot_shows_each_model_that_has_macs_and_a_ccc(measured):
    pytest.importorskip("matplotlib")
    _, rows, _ = measured
    bubbles = list(bench.plotted([*rows, rows[0] | {"macs_per_5s": None}, rows[0] | {"ccc": {}}]))
    assert [(bubble.macs, bubble.ccc) for bubble in bubbles] == [
        (row["macs_per_5s"], row["ccc"]["corpus0"]["arousal"]["value"]) for row in rows
    ]
    assert bubbles[0].area / bubbles[1].area == pytest.approx(rows[0]["bytes"] / rows[1]["bytes"])
    (axes,) = bench.plot_figure(rows).axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["wav2small fp32, 297 KB", "wav2small int8, 108 KB"]
