"""The Python of docs/agents.md runs, and its functions give the note of the turn that they get."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from wav2small import Baseline, load
from wav2small.agents import Turn
from wav2small.runtime.baseline import READY_DUR

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "agents.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


def block(text: str) -> dict:
    """The names that the one block with this text defines."""
    (code,) = (code for code in BLOCKS if text in code)
    names: dict = {}
    exec(code, names)
    names["turn"].new_speaker(ready())
    return names


def ready() -> Baseline:
    return Baseline(speech_dur=READY_DUR, mean=np.zeros(3))


def voice(sampling_rate: int) -> np.ndarray:
    signal, own_rate = soundfile.read(ROOT / "examples" / "08a05Fe.flac")
    return np.round(soxr.resample(signal, own_rate, sampling_rate).clip(-1, 1) * 32767).astype(np.int16)


def note(signal: np.ndarray, sampling_rate: int) -> str:
    turn = Turn(load("micro", calibration=True), ready())
    turn.push(signal, sampling_rate)
    found = turn.stop().note
    assert found
    return found


def test_a_turn(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    block("soundfile.read")
    assert re.fullmatch(r"0\.\d+ 0\.\d+ 0\.\d+ None None\n", capsys.readouterr().out)


def test_fastrtc():
    (context,) = block("def respond")["respond"]((48000, voice(48000)[None]))
    assert context == [{"role": "developer", "content": note(voice(48000), 48000)}]


def test_realtime_events():
    on_event, signal = block("def on_event")["on_event"], voice(24000)
    sent = [{"type": "session.created"}, {"type": "input_audio_buffer.speech_started"}]
    for start in range(0, len(signal), 960):
        chunk = base64.b64encode(signal[start : start + 960].tobytes()).decode()
        sent.append({"type": "input_audio_buffer.append", "audio": chunk})
    assert {on_event(event) for event in sent} == {None}
    answer = on_event({"type": "input_audio_buffer.speech_stopped"})
    assert answer["type"] == "conversation.item.create"
    assert answer["item"]["content"][0]["text"] == note(signal, 24000)
