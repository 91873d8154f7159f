"""Segments of a recording: read from any program's file, answered each, told against their speaker, written, drawn."""

from __future__ import annotations

import io
import itertools
import json
import re
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_duration
from wav2small.cli import main
from wav2small.errors import ManifestError, MissingExtraError, Wav2SmallError
from wav2small.evaluation import plots as timeline
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.options import Options
from wav2small.runtime.baseline import Baseline, add_baselines
from wav2small.runtime.predict import predict, predict_segments
from wav2small.tables import formats as writers
from wav2small.tables import table as tables
from wav2small.tables import trends as course
from wav2small.tables.spans import Span, read_spans, spans_of

SPANS = [Span(0.5, 2.0, "anna"), Span(2.25, 4.0, "ben c")]
RTTM = """SPEAKER talk 1 2.25 1.75 <NA> <NA> ben_c <NA> <NA>
SPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA>
SPEAKER talk 1 0.500 1.500 <NA> <NA> anna <NA> <NA>
"""
AUDFORMAT = """file,start,end,speaker
a.wav,0 days 00:00:00.500000,0 days 00:00:02,anna
a.wav,0 days 00:00:02.25,0 days 00:00:04,ben c
"""


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16000))).astype("f4")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def answer(signal: np.ndarray) -> Emotion:
    return Emotion(float(np.abs(signal).mean()), len(signal) / 16000 / 100, abs(float(signal[0])))


def row_of(start: float, end: float, value: float | None, speaker: str = "anna", **more) -> dict:
    told = dict.fromkeys(OUTPUTS, value)
    return {"file": "a.wav", "start": start, "end": end, "speaker": speaker, **told, "speech_ratio": 1.0, **more}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (RTTM, [Span(0.5, 2.0, "anna", "talk"), Span(2.25, 4.0, "ben_c", "talk")]),
        ("0.500000\t2.000000\tanna\n\\\t100\t300\n2,25\t4\tben c\n", SPANS),
        ("start,end,speaker\n2.25,4,ben c\n0.5,2,anna\n", SPANS),
        ('{"start": 0.5, "end": 2.0, "speaker": "anna"}\n{"start": 2.25, "end": 4, "speaker": "ben c"}\n', SPANS),
        (AUDFORMAT, [span._replace(file="a.wav") for span in SPANS]),
        ("start;end\n", None),
    ],
)
def test_segments_are_read_by_their_content_whatever_the_name(tmp_path, content, expected):
    for name in ("a.csv", "a.rttm", "a"):
        path = write(tmp_path / name, content)
        if expected is None:
            with pytest.raises(ManifestError, match="has no segment; needed: RTTM"):
                read_spans(path)
        else:
            assert read_spans(path) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("SPEAKER talk 1 0.5 1.5 <NA>\n", "line 1: has 6 fields, RTTM has 8 or more"),
        ("SPEAKER talk 1 x 1.5 <NA> <NA> a\n", "line 1: 'x' is not a time"),
        ("SPEAKER talk 1 1 0 <NA> <NA> a\n", "line 1: from 1 to 1 s is empty"),
        ("start,end\n1,2\n2,1\n", "row 2: from 2 to 1 s is empty"),
        ("start,end\n-1,2\n", "row 1: from -1 to 2 s is empty"),
        ("begin,end\n1,2\n", "row 1: has no start; give each segment its start and end"),
        ("1\t2\ta\nx\t2\tb\n", "line 2: 'x' is not a time"),
        ("", "is empty; give a table"),
    ],
)
def test_what_is_no_segment_is_refused_with_its_place(tmp_path, content, words):
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(ManifestError, match=re.escape(words)) as caught:
        read_spans(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    with pytest.raises(ManifestError, match="cannot be opened"):
        read_spans(tmp_path / "gone")


def test_of_a_table_of_many_recordings_each_gets_its_own():
    spans = [Span(0, 1, "", "a"), Span(0, 2, "", "dir/b.wav")]
    assert spans_of(spans, "x/a.wav") == spans[:1] and spans_of(spans, "dir/b.wav") == spans[1:]
    assert spans_of(spans[:1], "other.wav") == spans[:1], "the one that they name may have been renamed"
    with pytest.raises(
        ManifestError, match=r"c.wav: there is no segment of this file; there are segments of a, dir/b.wav"
    ):
        spans_of(spans, "c.wav")


@given(
    st.lists(st.tuples(any_duration(0, 19 * 16000), any_duration(800, 12 * 16000)), min_size=1, max_size=8),
    st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_a_segment_is_answered_as_a_file_of_its_own(times, seed):
    signal = voice(20, seed)
    content = io.BytesIO()
    soundfile.write(content, signal, 16000, format="WAV", subtype="FLOAT")
    spans = sorted(Span(start, min(20.0, start + dur), str(n)) for n, (start, dur) in enumerate(times))
    found = list(predict_segments(content, spans, model=answer))
    assert [span for span, _ in found] == spans
    for span, row in found:
        (alone,) = predict(signal[round(span.start * 16000) : round(span.end * 16000)], 16000, model=answer)
        assert [getattr(row, name) for name in OUTPUTS] == [getattr(alone, name) for name in OUTPUTS]
        assert (row.start, row.end, row.speech) == (span.start, span.end, True)


def test_a_segment_beyond_the_end_is_a_row_with_its_error_and_the_rest_are_done(tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(5), 16000)
    spans = [Span(0, 2), Span(1, 9), Span(4, 5.3), Span(4.999, 5), Span(7, 8)]
    rows = [row for _, row in predict_segments(tmp_path / "a.wav", spans, model=answer)]
    assert [row.error is None for row in rows] == [True, False, True, False, False]
    assert rows[1].error == "from 1 to 9 s the file has 4.00 s only; do the segments belong to another file?"
    assert "too short for an answer: 16 of at least 64" in rows[3].error
    assert rows[4].error.startswith("from 7 to 8 s the file has 0.00 s only")


def test_a_segment_may_end_half_a_second_after_its_file(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(5), 16000)
    spans = [Span(1, 5.5), Span(2, 5.5 + 1 / 16000), Span(5 - 64 / 16000, 5), Span(5 - 63 / 16000, 5)]
    seen, rows = [], []
    for span, row in predict_segments(path, spans, model=answer, progress=lambda *told: seen.append(told)):
        rows.append(row)
        assert (row.file, row.start, row.end) == (str(path), span.start, span.end)
    assert [row.error is None for row in rows] == [True, False, True, False]
    assert rows[3].error.startswith("too short for an answer: 63 of at least 64")
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_segments_are_of_the_channel_and_the_model_asked_for(tmp_path):
    signal = np.stack([voice(40), np.zeros(len(voice(40)))], axis=1)
    soundfile.write(tmp_path / "a.wav", signal, 16000)
    for channel in (0, 1):
        ((_, row),) = predict_segments(tmp_path / "a.wav", [Span(1, 38)], options=Options(channel=channel))
        (alone,) = predict(np.float32(signal[16000 : 38 * 16000]), 16000, channel=channel)
        assert row.speech is (channel == 0) and row.arousal == pytest.approx(alone.arousal, abs=1e-4)


def test_memory_grows_with_the_longest_segment_not_with_the_file(tmp_path):
    soundfile.write(tmp_path / "a.flac", voice(300), 16000)
    spans = [Span(float(start), start + 5.0) for start in range(0, 290, 10)]
    tracemalloc.start()
    rows = list(predict_segments(tmp_path / "a.flac", spans, model=answer, options=Options(vad="energy")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 29 and peak < 4_000_000  # the file has 19 MB of samples


def test_the_baseline_is_the_speakers_own_and_begins_after_20_seconds_of_speech():
    rows = [row_of(4 * n, 4 * n + 4, 0.3 + 0.02 * (n % 3), "anna") for n in range(10)]
    rows += [row_of(50 + 4 * n, 54 + 4 * n, 0.8, "ben") for n in range(3)]
    rows += [row_of(70, 74, 0.9, "anna"), row_of(74, 78, None, "anna")]
    found = list(add_baselines(rows))
    assert [row["arousal_baseline"] is None for row in found] == [True] * 5 + [False] * 5 + [True] * 3 + [False] * 2
    anna = Baseline()
    for row in rows[:10]:
        anna.add(Emotion(*(row[name] for name in OUTPUTS)), 4.0)
    assert found[-2]["arousal_baseline"] == anna.mean[0]
    assert found[-2]["arousal_deviation"] == anna.deviation(Emotion(0.9, 0.9, 0.9)).arousal
    assert found[-1]["arousal_deviation"] is None and found[-1]["arousal_baseline"] > anna.mean[0]
    assert all(row[name] == before[name] for row, before in zip(found, rows, strict=True) for name in OUTPUTS)


def test_pauses_do_not_count_as_speech():
    half = [row_of(4 * n, 4 * n + 4, 0.3, speech_ratio=0.5) for n in range(16)]
    assert sum(row["arousal_baseline"] is None for row in add_baselines(half)) == 10


def test_a_rise_and_a_fall_are_trends_with_their_start_end_and_direction():
    values = [0.2] * 10 + list(np.linspace(0.2, 0.8, 20)) + [0.8] * 10 + list(np.linspace(0.8, 0.5, 15))
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(values))
    rows = [row_of(n, n + 1, value) for n, value in enumerate(values + noise)]
    found = [trend for trend in course.trends(rows) if trend["dimension"] == "arousal"]
    assert [trend["direction"] for trend in found] == ["rising", "falling"]
    rising, falling = found
    assert rising["start"] < 13 and 27 < rising["end"] == falling["start"] < 42 and falling["end"] > 50
    assert rising["change"] == pytest.approx(0.6, abs=0.06) and falling["change"] == pytest.approx(-0.3, abs=0.06)
    assert set(rising) == set(course.TREND_FIELDS)


def test_a_steady_voice_a_step_of_a_moment_and_nothing_at_all_have_no_trend():
    steady = [row_of(n, n + 1, 0.5 + 0.03 * (-1) ** n) for n in range(40)]
    spike = [row_of(n, n + 1, 0.9 if n == 20 else 0.5) for n in range(40)]
    for rows in (steady, spike, [], [row_of(0, 1, None)]):
        assert course.trends(rows) == []


@given(st.lists(st.floats(0, 1), max_size=60))
@settings(deadline=None)
def test_swings_follow_on_each_other_turn_by_turn_and_are_large_enough(values):
    found = list(course.swings(values))
    for (_, end), (start, _) in itertools.pairwise(found):
        assert end == start
    changes = [values[last] - values[first] for first, last in found]
    assert all(abs(change) >= course.MIN_CHANGE for change in changes)
    assert all(a * b < 0 for a, b in itertools.pairwise(changes))


ROWS = [
    row_of(0.0, 3.0, 0.25, speech=True),
    row_of(1.0, 4.0, None, speech=False),
    row_of(5.0, 61.5, 0.5, 'b"c', speech=True),
]


def test_a_textgrid_has_a_tier_a_speaker_and_dimension_and_its_intervals_follow_on_each_other():
    text = writers.textgrid(ROWS)
    names = re.findall(r'name = "(.*)"', text)
    assert names == [f"{speaker} {name}" for speaker in ("anna", 'b""c') for name in OUTPUTS]
    for tier in text.split("item [")[2:]:
        times = [float(number) for number in re.findall(r"    xm(?:in|ax) = ([\d.]+)", tier)][2:]
        assert times[0] == 0 and times[-1] == 61.5 and times[1:-1:2] == times[2::2]
        assert int(re.search(r"size = (\d+)", tier)[1]) == len(times) / 2
    assert re.findall(r'text = "(.*)"', text)[:3] == ["0.2500", "", ""]


def test_elan_finds_the_values_of_the_textgrid_at_their_times():
    document = ElementTree.fromstring(writers.elan(ROWS).encode())
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in document.iter("TIME_SLOT")}
    tiers = {tier.get("TIER_ID"): list(tier.iter("ALIGNABLE_ANNOTATION")) for tier in document.iter("TIER")}
    assert list(tiers) == [f"{speaker} {name}" for speaker in ("anna", 'b"c') for name in OUTPUTS]
    expected = {"anna": [(0, 1000, "0.2500")], 'b"c': [(5000, 61500, "0.5000")]}
    for name, aligned in tiers.items():
        found = [
            (times[one.get("TIME_SLOT_REF1")], times[one.get("TIME_SLOT_REF2")], one.findtext("ANNOTATION_VALUE"))
            for one in aligned
        ]
        assert found == expected[name.split()[0]]
    identities = [one.get("ANNOTATION_ID") for tier in tiers.values() for one in tier]
    assert len(set(identities)) == len(identities) == 6 and len(times) == 12


def test_webvtt_and_rttm_are_read_back(tmp_path):
    vtt = writers.webvtt(ROWS)
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n<v anna>arousal 0.25 dominance 0.25 valence 0.25\n")
    assert '00:00:05.000 --> 00:01:01.500\n<v b"c>arousal 0.50' in vtt and "<v anna>no speech" in vtt
    srt = writers.srt(ROWS)
    assert srt.startswith("1\n00:00:00,000 --> 00:00:03,000\nanna: arousal 0.25 dominance 0.25 valence 0.25\n\n2\n")
    assert srt.endswith('3\n00:00:05,000 --> 00:01:01,500\nb"c: arousal 0.50 dominance 0.50 valence 0.50\n')
    spans = read_spans(write(tmp_path / "a", writers.rttm(ROWS)))
    assert [(span.start, span.end, span.speaker, span.file) for span in spans] == [
        (row["start"], row["end"], row["speaker"], "a.wav") for row in ROWS
    ]
    assert "arousal=0.25;dominance=0.25;valence=0.25" in writers.rttm(ROWS)


def test_audformat_reads_its_table(tmp_path):
    audformat = pytest.importorskip("audformat")
    frame = audformat.utils.read_csv(write(tmp_path / "a.csv", writers.audformat(ROWS)))
    assert frame.index.get_level_values("end").total_seconds().tolist() == [3.0, 4.0, 61.5]
    assert audformat.is_segmented_index(frame) and frame["arousal"].tolist()[::2] == [0.25, 0.5]
    assert [span.end for span in read_spans(tmp_path / "a.csv")] == [3.0, 4.0, 61.5]


def test_files_of_one_recording_refuse_two_and_failures_are_left_out():
    failed = {"file": "b.wav", "error": "x"} | dict.fromkeys(("start", "end", *OUTPUTS))
    for name in ("textgrid", "eaf", "vtt", "srt"):
        assert tables.render([*ROWS, failed], name) == tables.render(ROWS, name)
        with pytest.raises(Wav2SmallError, match="holds one recording, these rows are of 2"):
            tables.render([*ROWS, {**ROWS[0], "file": "b.wav"}], name)
    assert tables.format_of("a.TextGrid") == "textgrid"


def test_a_picture_is_drawn_whole_or_not_at_all(tmp_path):
    pytest.importorskip("matplotlib")
    soundfile.write(tmp_path / "a.wav", voice(6), 16000)
    rows = [{**row, "file": str(tmp_path / "a.wav"), "end": min(row["end"], 6.0)} for row in ROWS]
    timeline.draw(rows, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    sure = [row | {f"{name}_{end}": row[name] for name in OUTPUTS for end in ("low", "high")} for row in rows]
    timeline.draw(sure, tmp_path / "sure.png")
    wide = [row | {"arousal_low": 0.0, "arousal_high": 1.0} for row in sure]
    timeline.draw(wide, tmp_path / "wide.png")
    pictures = [(tmp_path / f"{name}.png") for name in ("a", "sure", "wide")]
    assert len({picture.read_bytes() for picture in pictures[1:]}) == 2, "the interval is drawn"
    for picture in pictures[1:]:
        picture.unlink()
    with pytest.raises(Wav2SmallError, match=r"end it with .png, .svg, .pdf"):
        timeline.draw(rows, tmp_path / "a.xyz")
    with pytest.raises(Wav2SmallError, match="a picture is of one file on disk, these rows are of 2 files"):
        timeline.draw([*rows, {**rows[0], "file": "b"}], tmp_path / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.wav"]
    assert timeline.speech_stretches(ROWS) == [(0.0, 3.0), (5.0, 61.5)]


def test_each_speaker_has_a_line_of_its_own_with_gaps_where_nobody_speaks_long():
    rows = [
        {"start": t, "end": t + 1, "speaker": speaker, "arousal": value, "arousal_low": 0.1}
        for t, speaker, value in ((0, "a", 0.2), (1, "b", 0.9), (2, "a", 0.4), (40, "a", 0.6), (41, "a", None))
    ]
    own = timeline.line([row for row in rows if row["speaker"] == "a"], "arousal", timeline.TURN_DUR)
    np.testing.assert_array_equal(own.times, [0.5, 2.5, np.nan, 40.5])
    np.testing.assert_array_equal(own.mean, [0.2, 0.4, np.nan, 0.6])
    assert own.low[0] == 0.1 and np.isnan(own.high).all()
    assert timeline.line([], "arousal", 3).times.size == 0


def test_a_line_of_hours_is_the_mean_over_stretches_of_time():
    rng = np.random.default_rng(0)
    rows = [{"start": t, "end": t + 3.0, "valence": 0.5 + 0.1 * rng.standard_normal()} for t in range(10_800)]
    rows = [row for row in rows if not 3600 < row["start"] < 5400]
    found = timeline.line(rows, "valence", timeline.PAUSE_DUR)
    assert 300 < len(found.times) <= timeline.MAX_POINTS + 1
    assert np.nanstd(found.mean) < 0.03 and np.isnan(found.mean).sum() == 1
    assert np.nanmean(found.low) == pytest.approx(0.37, abs=0.02)
    times, low, high = timeline.thinned_peaks(np.arange(9001.0), -np.arange(9001.0), np.arange(9001.0))
    assert len(times) == timeline.MAX_PEAKS and (times[-1], low.min(), high.max()) == (9000, -9000, 9000)


@pytest.mark.parametrize(
    ("seconds", "total", "text"),
    [(0, 60, "0:00"), (65, 600, "1:05"), (2.5, 3, "0:02.5"), (59.999, 90, "1:00"), (3725, 10_800, "1:02:05")],
)
def test_the_axis_of_time_is_a_clock(seconds, total, text):
    assert timeline.clock(seconds, total) == text


def test_the_waveform_has_its_peaks_where_they_are(tmp_path):
    signal = np.zeros(200_000, "f4")
    signal[100_000], signal[150_000] = 0.5, -0.75
    soundfile.write(tmp_path / "a.wav", signal, 16000)
    times, low, high = timeline.peaks(str(tmp_path / "a.wav"), None)
    assert times[high.argmax()] == pytest.approx(100_000 / 16000, abs=timeline.PEAK_DUR)
    assert times[low.argmin()] == pytest.approx(150_000 / 16000, abs=timeline.PEAK_DUR)
    assert (high.max(), low.min()) == (0.5, -0.75) and np.all(np.diff(times) > 0)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(timeline, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"wav2small\[plot\]"):
        timeline.draw(ROWS, tmp_path / "a.png")


def run(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def test_the_command_answers_segments_by_speaker_with_trends_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    soundfile.write(tmp_path / "talk.flac", voice(6), 16000)
    segments = write(tmp_path / "a.rttm", RTTM + "SPEAKER talk 1 50 1 <NA> <NA> anna <NA> <NA>\n")
    more = ("--trends", tmp_path / "t.csv", "--plot", tmp_path / "p.png", "--format", "json", "--model", "micro")
    result = run(tmp_path / "talk.flac", "--segments", segments, "--by-speaker", *more)
    rows = json.loads(result.stdout)
    assert [(row["speaker"], row["start"], row["end"]) for row in rows] == [
        ("anna", 0.5, 2.0), ("ben_c", 2.25, 4.0), ("anna", 50.0, 51.0),
    ]  # fmt: skip
    assert result.exit_code == 1 and "do the segments belong to another file?" in result.stderr
    assert rows[0]["arousal"] is not None and "arousal_deviation" in rows[0] and rows[2]["arousal"] is None
    assert (tmp_path / "t.csv").read_text().startswith("file,speaker,dimension,start,end,direction,change")
    assert (tmp_path / "p.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--segments", "a.rttm", "--hop", "1"), "goes without --hop"),
        (("--by-speaker",), "--by-speaker needs --segments"),
        (("--plot", "a.png"), "need rows over time: --hop or --segments"),
        (("--trends", "a.csv"), "need rows over time"),
        (("--hop", "1", "--trends", "a.xyz"), "no format has the suffix '.xyz'"),
        (("--hop", "1", "--plot", "a.xyz"), "a.xyz: no picture has this suffix; end it with .png, .svg, .pdf"),
        (("--segments", "gone.rttm"), "gone.rttm: cannot be opened"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    result = run("a.wav", *options)
    assert result.exit_code != 0 and words in " ".join(result.stderr.split()) and "Traceback" not in result.output
