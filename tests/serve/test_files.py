"""Files over HTTP: the numbers of predict in every format, and every limit."""

from __future__ import annotations

import csv
import io
import json
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from running_service import code_of, running
from wav2small import load, predict
from wav2small.network.config import OUTPUTS
from wav2small.runtime.predict import predict_segments
from wav2small.serve.answers import Job, spans_of_bytes
from wav2small.serve.errors import ServeError
from wav2small.serve.settings import Limits
from wav2small.tables.spans import Span

CLIPS = sorted(Path("examples").glob("*.flac"))
LABELS = b"0.0\t1.5\tanna\n1.5\t3.0\tben\n"


@pytest.fixture(scope="module")
def micro():
    return load("micro", "c")


def same(row, expected):
    for name in ("start", "end", *OUTPUTS, "speech_ratio"):
        wanted = getattr(expected, name)
        assert row[name] == (None if wanted is None else pytest.approx(wanted, abs=1e-4)), name


@pytest.mark.parametrize("clip", CLIPS, ids=lambda path: path.stem)
def test_a_file_gets_the_answer_of_predict(service, micro, clip):
    status, text = service.post(clip)
    answer = json.loads(text)
    (row,) = answer["rows"]
    assert status == 200 and answer["model"] == "micro" and row["file"] == clip.name
    same(row, *predict(clip, model=micro))


def test_windows_are_those_of_predict(service, micro):
    _, text = service.post(CLIPS[0], hop=0.5, window=1.0, min_speech=0.2)
    expected = predict(CLIPS[0], model=micro, hop_dur=0.5, win_dur=1.0, min_speech=0.2)
    rows = json.loads(text)["rows"]
    assert len(rows) == len(expected) > 3
    for row, one in zip(rows, expected, strict=True):
        same(row, one)


def test_another_model_and_its_calibration_are_those_of_predict(service):
    _, text = service.post(CLIPS[1], model="micro:int8", intervals="true", response_format="verbose_json")
    answer = json.loads(text)
    (expected,) = predict(CLIPS[1], model=load("micro:int8", "c", calibration=True))
    (row,) = answer["rows"]
    same(row, expected)
    assert row["valence_low"] == pytest.approx(expected.valence_low, abs=1e-4) and row["word"] == expected.word
    assert answer["model_info"]["precision"] == "int8" and answer["duration"] == pytest.approx(expected.end)


def test_segments_are_those_of_predict(service, micro):
    _, text = service.post(CLIPS[0], segments=LABELS, by_speaker="true")
    pairs = predict_segments(CLIPS[0], [Span(0, 1.5, "anna"), Span(1.5, 3.0, "ben")], model=micro)
    rows = json.loads(text)["rows"]
    for row, (span, expected) in zip(rows, pairs, strict=True):
        same(row, expected)
        assert row["speaker"] == span.speaker and row["arousal_baseline"] is None and row["error"] is None


def test_every_format_has_the_same_rows(service):
    texts = {
        name: service.post(CLIPS[0], hop=1, response_format=name)[1]
        for name in ("json", "jsonl", "csv", "vtt", "textgrid", "eaf", "rttm", "audformat")
    }
    rows = json.loads(texts["json"])["rows"]
    assert [json.loads(line) for line in texts["jsonl"].splitlines()] == rows
    table = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [float(row["arousal"]) for row in table] == pytest.approx([row["arousal"] for row in rows], abs=1e-4)
    first = rows[0]["arousal"]
    assert texts["vtt"].startswith("WEBVTT") and f"arousal {first:.2f}" in texts["vtt"]
    assert f'text = "{first:.4f}"' in texts["textgrid"] and f">{first:.4f}<" in texts["eaf"]
    assert f"arousal={first:.2f}" in texts["rttm"] and "0 days 00:00:00.000" in texts["audformat"]


def test_measurements_of_utterances_are_those_of_predict(service, micro, clip, tmp_path):
    pause = np.zeros(16000, np.int16)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([clip, pause, clip]), 16000)
    config = json.dumps({"measurement_timer_ms": 2000})
    status, text = service.post(tmp_path / "talk.wav", "/v1/expression/audio/file", config=config)
    answer = json.loads(text)
    assert status == 200 and [one["utterance_id"] for one in answer["utterances"]] == ["u1", "u2"]
    assert [one["trigger"] for one in answer["measurements"]] == ["interval", "speech_ended"] * 2
    spans = [Span(one["audio_start_ms"] / 1000, one["audio_end_ms"] / 1000) for one in answer["measurements"]]
    for one, (_, expected) in zip(
        answer["measurements"], predict_segments(tmp_path / "talk.wav", spans, model=micro), strict=True
    ):
        for name in OUTPUTS:
            assert one["dimensions"][name] == pytest.approx(getattr(expected, name), abs=1e-4)


def test_models_are_listed_with_licence_and_sha256(service):
    _, listed = service.get("/v1/models")
    names = [one["id"] for one in listed["data"]]
    assert listed["object"] == "list" and names[0] == "micro" and {"micro:int8", "wav2small"} < set(names)
    for one in listed["data"]:
        assert one["object"] == "model" and one["licence"] and one["precision"] and len(one["sha256"]) == 64
    assert service.get("/v1/models/micro:fp32") == service.get("/v1/models/micro") == (200, listed["data"][0])
    assert service.get("/v1/models/micro")[1]["sha256"] == load("micro", "c").metadata["sha256"]


def test_health_metrics_page_and_documents(service):
    assert service.get("/health") == (200, {"status": "ok"}) and service.get("/ready") == (200, {"status": "ready"})
    service.post(CLIPS[0])
    text = service.request("GET", "/metrics")[2]
    assert 'wav2small_requests_total{code="200",route="/v1/audio/emotion"}' in text
    assert 'wav2small_audio_seconds_total{model="micro"}' in text and "wav2small_step_seconds_bucket" in text
    page = service.request("GET", "/")[2]
    assert page.startswith("<!doctype html>") and service.request("GET", "/docs")[0] == 200
    status, headers, _ = service.request("GET", "/demo.js")
    assert status == 200 and headers["content-type"].startswith("text/javascript") and headers["x-request-id"]


@pytest.mark.parametrize(
    ("file", "fields", "expected"),
    [
        (b"no audio at all", {}, (400, "audio_decode_failed")),
        (b"", {}, (400, "audio_decode_failed")),
        (CLIPS[0], {"model": "nonsense"}, (404, "not_found")),
        (CLIPS[0], {"model": "src/wav2small/data/micro.onnx"}, (404, "not_found")),
        (CLIPS[0], {"response_format": "parquet"}, (400, "config_invalid")),
        (CLIPS[0], {"hop": "nan"}, (400, "config_invalid")),
        (CLIPS[0], {"hop": 2, "window": 1}, (400, "config_invalid")),
        (CLIPS[0], {"window": 1}, (400, "config_invalid")),
        (CLIPS[0], {"by_speaker": "true"}, (400, "config_invalid")),
        (CLIPS[0], {"hop": 1, "segments": LABELS}, (400, "config_invalid")),
        (CLIPS[0], {"segments": b"\x00\xff"}, (400, "config_invalid")),
        (CLIPS[0], {"segments": b"PAR1..PAR1"}, (400, "config_invalid")),
        (CLIPS[0], {"segments": b"0\t99999\ta\n"}, (400, "config_invalid")),
    ],
)
def test_a_wrong_request_is_refused(service, file, fields, expected):
    assert service.refused(file, **fields) == expected


def test_what_is_not_a_form_is_refused(service):
    status, _, text = service.request("POST", "/v1/audio/emotion", b"{}", {"Content-Type": "application/json"})
    assert (status, code_of(json.loads(text))) == (415, "unsupported_media_type")
    for kind, body in (("; boundary=x", b"broken"), ("", b"--x\r\n"), ("; boundary=x", b"--x\r\nbroken\r\n")):
        headers = {"Content-Type": f"multipart/form-data{kind}"}
        status, _, text = service.request("POST", "/v1/audio/emotion", body, headers)
        assert (status, code_of(json.loads(text))) == (400, "message_invalid")
    assert service.request("DELETE", "/v1/models")[0] == 405 and service.get("/nothing")[0] == 404
    assert service.refused(CLIPS[0], path="/v1/expression/audio/file", config="{") == (400, "config_invalid")


def long_file(kind, subtype, dur, sampling_rate=8000):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(round(dur * sampling_rate), np.int16), sampling_rate, subtype, format=kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def strict():
    limits = Limits(request_bytes=2**16, request_dur=30, upload_dur=1.0, requests=1)
    with running(limits=limits) as found:
        yield found


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "OPUS")])
def test_a_small_file_of_long_silence_is_refused(strict, kind, subtype):
    content = long_file(kind, subtype, 40)
    assert len(content) < 2**16
    assert strict.refused(content) == (413, "audio_too_long")
    assert strict.refused(content, segments=b"0\t1\ta\n") == (413, "audio_too_long")
    assert strict.refused(content, path="/v1/expression/audio/file") == (413, "audio_too_long")


def test_what_states_no_length_is_bounded_while_it_is_decoded(monkeypatch):
    """A header may state less than there is: the decoder is stopped after the limit, and not asked for the rest."""
    decoded = []

    def endless(file):
        while True:
            decoded.append(1)
            yield np.zeros(16000, np.float32)

    monkeypatch.setattr("wav2small.audio.read.blocks", endless)
    with pytest.raises(ServeError) as caught:
        list(Job(io.BytesIO(), Limits(request_dur=5)).blocks())
    assert caught.value.code == "audio_too_long" and len(decoded) == 6


def test_a_file_that_takes_too_long_is_stopped():
    content = io.BytesIO(long_file("FLAC", "PCM_16", 10))
    with pytest.raises(ServeError) as caught:
        list(Job(content, Limits(processing_dur=0)).blocks())
    assert caught.value.code == "processing_too_long"


def test_a_body_that_is_too_large_is_refused_by_its_header_and_by_its_size(strict):
    assert strict.refused(bytes(2**16)) == (413, "request_too_large")
    body = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(2**16)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, _, text = strict.request("POST", "/v1/audio/emotion", iter([body]), headers)
    assert (status, code_of(json.loads(text))) == (413, "request_too_large")


def test_a_slow_body_is_refused_and_more_requests_wait_for_nothing(strict):
    head = b"POST /v1/audio/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
    with socket.create_connection(("127.0.0.1", strict.port), 60) as slow:
        slow.sendall(head)
        for _ in range(1000):
            if strict.state.requests:
                break
            threading.Event().wait(0.01)
        assert strict.refused(CLIPS[0]) == (503, "server_busy")
        assert b" 408 " in slow.recv(4096)


def test_a_client_that_goes_away_leaves_nothing(strict):
    head = b"POST /v1/audio/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
    with socket.create_connection(("127.0.0.1", strict.port), 60) as gone:
        gone.sendall(head)
    for _ in range(1000):
        if not strict.state.requests:
            break
        threading.Event().wait(0.01)
    assert strict.state.requests == 0


def test_no_audio_is_written_to_a_disk_and_no_name_to_a_log(service, tmp_path, monkeypatch, caplog):
    def on_disk(self):
        raise AssertionError("a file goes to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", on_disk)
    soundfile.write(tmp_path / "confidential.wav", np.zeros(2_000_000, np.int16), 16000)
    with caplog.at_level("DEBUG"):
        status, text = service.post(tmp_path / "confidential.wav")
    assert status == 200 and json.loads(text)["rows"][0]["speech"] is False
    assert "/v1/audio/emotion 200" in caplog.text and "confidential" not in caplog.text


@pytest.mark.parametrize(
    "content", [b"RIFF0000WAVEfmt 00000000data0000", b"\0\0\0\x18ftypM4A \0\0\0\0", b"#EXTM3U\nfile:///x"]
)
def test_no_upload_starts_ffmpeg(service, monkeypatch, content):
    """It would need the file on a disk, may take any time, and reads formats that name other files."""
    monkeypatch.setattr("wav2small.audio.ffmpeg.program", lambda: pytest.fail("ffmpeg is asked for"))
    for path in ("/v1/audio/emotion", "/v1/expression/audio/file"):
        assert service.refused(content, path=path) == (400, "audio_decode_failed")
    assert service.refused(content, segments=LABELS) == (400, "audio_decode_failed")


def test_errors_of_segments_name_no_file_of_the_server():
    with pytest.raises(ServeError, match=r"^Segments, row 1"):
        spans_of_bytes(b"start,end\n5,1\n")
