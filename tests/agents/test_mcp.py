"""Tools for language models, over the SDK's client in memory; the last minute of a microphone."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import wav2small
from wav2small import load, models, predict
from wav2small.agents.mcp import KEPT_DUR, WIN_DUR, LastMinute, server
from wav2small.audio import read, sources
from wav2small.cli import main
from wav2small.cli.mcp import follow
from wav2small.errors import AudioError, MissingExtraError
from wav2small.runtime.model import Model

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))


@lru_cache
def model() -> Model:
    return load("micro", calibration=True)


@lru_cache
def voice(number: int) -> np.ndarray:
    return np.resize(read.read(EXAMPLES[number]), 70 * 16000)


def called(name: str, last_minute: LastMinute | None = None, **arguments):
    """The result of a tool in a session, or the text of its error."""
    mcp = pytest.importorskip("mcp", reason="needs the extra mcp")

    async def session():
        async with mcp.Client(server("micro", last_minute)) as client:
            return await client.call_tool(name, arguments)

    result = asyncio.run(session())
    return result.content[0].text if result.is_error else result.structured_content


def test_a_client_is_given_the_tools_and_what_they_mean():
    mcp = pytest.importorskip("mcp", reason="needs the extra mcp")

    async def listed(last_minute):
        async with mcp.Client(server("micro", last_minute)) as client:
            assert client.server_info.version == wav2small.__version__
            return client.instructions, (await client.list_tools()).tools

    instructions, tools = asyncio.run(listed(None))
    assert "tentative" in instructions and [tool.name for tool in tools] == ["tone_of_file", "models"]
    assert tools[0].input_schema["required"] == ["path"]
    _, tools = asyncio.run(listed(LastMinute(model())))
    assert tools[-1].name == "tone_of_last_minute" and all(tool.description for tool in tools)


def test_the_tone_of_a_file_is_that_of_predict():
    path = str(EXAMPLES[0])
    (row,) = called("tone_of_file", path=path)["result"]
    (wanted,) = predict(path, model=model())
    for name in ("end", "arousal", "dominance", "valence", "arousal_low", "valence_high", "speech_ratio"):
        assert row[name] == round(getattr(wanted, name), 3)
    rows = called("tone_of_file", path=path, hop_dur=1.0)["result"]
    assert [row["start"] for row in rows] == [row.start for row in predict(path, model=model(), hop_dur=1.0)]


def test_errors_are_sentences():
    assert "gone.wav: there is no such file; check the name" in called("tone_of_file", path="gone.wav")
    assert "no speech in the last 0 s" in called("tone_of_last_minute", LastMinute(model()))


def test_the_models_are_those_of_wav2small_models():
    assert called("models")["result"] == json.loads(json.dumps(models()))


@pytest.mark.slow
def test_the_last_minute_is_answered_relative_to_the_voice_before():
    last, whole = LastMinute(model()), voice(0)
    for start in range(0, len(whole), 1600):
        last.push(whole[start : start + 1600], 16000)
    before = last.answer()
    rows = predict(whole, 16000, model=model(), hop_dur=WIN_DUR)[: len(whole) // 48000]
    kept = [row for row in rows if row.start >= rows[-1].end - KEPT_DUR and row.speech]
    assert before["dur"] == KEPT_DUR and before["speech_dur"] == WIN_DUR * len(kept)
    for name in ("arousal", "dominance", "valence", "arousal_low", "valence_high"):
        assert before[name] == pytest.approx(np.mean([getattr(row, name) for row in kept]), abs=1e-3)
    assert [window["start"] for window in before["windows"]] == [row.start for row in kept]
    last.push(voice(2), 16000)
    after = last.answer()
    assert after["arousal"] < before["arousal"] - 0.2
    assert after["note"].startswith("The speaker may sound ") and "(an estimate from the voice alone)" in after["note"]
    assert called("tone_of_last_minute", last) == after


def test_a_microphone_that_is_gone_is_an_error(monkeypatch, capsys):
    def gone():
        raise MissingExtraError("a microphone needs sounddevice: pip install 'wav2small[live]'")

    monkeypatch.setattr(sources, "_sounddevice", gone)
    last = LastMinute(model())
    follow(last, None)
    assert capsys.readouterr().err == "wav2small: a microphone needs sounddevice: pip install 'wav2small[live]'\n"
    with pytest.raises(AudioError, match=r"needs sounddevice: pip install 'wav2small\[live\]'"):
        last.answer()


def test_without_the_extra_the_command_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "mcp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    result = CliRunner().invoke(main, ["mcp"])
    assert result.exit_code == 1
    assert result.output == "wav2small: a server of MCP needs mcp, not installed: pip install 'wav2small[mcp]'\n"


@pytest.mark.slow
def test_the_command_serves_over_standard_input_and_output():
    mcp = pytest.importorskip("mcp", reason="needs the extra mcp")

    async def session():
        parameters = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "wav2small", "mcp"], env=dict(os.environ)
        )
        async with mcp.stdio_client(parameters) as streams, mcp.ClientSession(*streams) as client:
            await client.initialize()
            return await client.call_tool("tone_of_file", {"path": str(EXAMPLES[0])})

    (row,) = asyncio.run(session()).structured_content["result"]
    assert row["arousal"] == round(predict(EXAMPLES[0], model=model())[0].arousal, 3)
