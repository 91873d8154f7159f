"""Over loopback: transcripts get the reading of Turn, everything else passes unchanged; payloads of the sensors."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

pytest.importorskip("wyoming", reason="needs wyoming")

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.server import AsyncEventHandler, AsyncTcpServer
from wyoming_wav2small import CONTEXT, EmotionHandler, Sensors, discovery, state
from wyoming_wav2small.__main__ import main as run_server
from wyoming_wav2small.__main__ import opened, save

from wav2small import Baseline, load
from wav2small.agents import Reading, Turn
from wav2small.runtime.baseline import READY_DUR

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.flac"))
MODEL = load("micro", calibration=True)


def clip(number: int, sampling_rate: int = 16000) -> np.ndarray:
    signal, own_rate = soundfile.read(EXAMPLES[number])
    resampled = signal if own_rate == sampling_rate else soxr.resample(signal, own_rate, sampling_rate)
    return np.round(resampled.clip(-1, 1) * 32767).astype(np.int16)


def command(signal: np.ndarray, sampling_rate: int = 16000, width: int = 2) -> list[Event]:
    """The events of a voice command, in chunks of 1,024 samples as Home Assistant sends them."""
    form = {"rate": sampling_rate, "width": width, "channels": 1 if signal.ndim == 1 else signal.shape[1]}
    chunks = [signal[start : start + 1024].tobytes() for start in range(0, len(signal), 1024)]
    audio = [AudioChunk(audio=chunk, **form).event() for chunk in chunks]
    return [Transcribe(language="de").event(), AudioStart(**form).event(), *audio, AudioStop().event()]


def expected(signal: np.ndarray, sampling_rate: int = 16000) -> Reading:
    turn = Turn(MODEL)
    turn.push(signal, sampling_rate)
    return turn.stop()


class Asr(AsyncEventHandler):
    """A speech-to-text server that transcribes how many bytes it got."""

    size = 0

    async def handle_event(self, event: Event) -> bool:
        if Describe.is_type(event.type):
            await self.write_event(Info().event())
        elif AudioChunk.is_type(event.type):
            self.size += len(event.payload or b"")
        elif AudioStop.is_type(event.type):
            await self.write_event(Transcript(str(self.size), context={"id": 7}, language="de").event())
            self.size = 0
        return True


def over_loopback(check, **options):
    """Run a coroutine with a client of our server, which has a speech-to-text server behind it."""

    async def main() -> None:
        asr, ours = AsyncTcpServer("127.0.0.1", 0), AsyncTcpServer("127.0.0.1", 0)
        await asr.start(Asr)
        uri = f"tcp://127.0.0.1:{port(asr)}"
        await ours.start(partial(EmotionHandler, **{"asr_uri": uri, "model": MODEL} | options))
        async with AsyncTcpClient("127.0.0.1", port(ours), read_timeout=60) as client:
            await check(client)
        for server in (ours, asr):
            await server.stop()

    asyncio.run(main())


def port(server: AsyncTcpServer) -> int:
    return server._server.sockets[0].getsockname()[1]


async def transcript(client: AsyncTcpClient, events: list[Event]) -> Transcript:
    for event in events:
        await client.write_event(event)
    return Transcript.from_event(await client.read_event())


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 24000, 48000])
def test_a_transcript_has_the_reading_of_its_audio(sampling_rate):
    found = []

    async def check(client):
        for number in (0, 1):
            signal = clip(number, sampling_rate)
            answer = await transcript(client, command(signal, sampling_rate))
            reading = expected(signal, sampling_rate)
            assert answer == Transcript(str(signal.nbytes), {"id": 7, CONTEXT: reading.as_dict()}, "de")
            assert found[-1] == reading, "one command has nothing of the one before"

    over_loopback(check, on_reading=found.append)
    assert len(found) == 2


def test_other_events_pass_and_other_samples_are_passed_but_not_read(caplog):
    async def check(client):
        await client.write_event(Describe().event())
        assert Info.from_event(await client.read_event()) == Info()
        answer = await transcript(client, command(clip(0).astype(np.int32), width=4))
        assert answer.context[CONTEXT] == Reading(0.0, 0.0).as_dict()
        assert answer.text == str(4 * len(clip(0)))
        assert "samples have 4 bytes; only samples of 2 bytes are read" in caplog.text
        stereo = np.stack([clip(1), clip(1)], 1)
        answer = await transcript(client, command(stereo))
        assert answer.context[CONTEXT]["arousal"] == pytest.approx(expected(clip(1)).arousal, abs=1e-5)

    over_loopback(check)


def test_without_a_speech_to_text_server_the_client_gets_an_error():
    async def check(client):
        await client.write_event(Describe().event())
        error = Error.from_event(await client.read_event())
        assert error.code == "asr-unavailable" and "tcp://127.0.0.1:9" in error.text
        assert await client.read_event() is None

    over_loopback(check, asr_uri="tcp://127.0.0.1:9")


def test_connections_share_the_baseline_which_is_saved(tmp_path):
    path = tmp_path / "me.json"
    baseline = opened(path)
    assert baseline.speech_dur == 0 and opened(None) is None

    async def check(client):
        await transcript(client, command(clip(0)))

    for count in (1, 2):
        over_loopback(check, baseline=baseline, on_reading=partial(save, baseline, path))
        reading = expected(clip(0))
        assert opened(path).speech_dur == pytest.approx(count * reading.dur * reading.speech_ratio)


class Broker:
    """What was published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict, bool]] = []

    def publish(self, topic: str, payload: str, qos: int = 0, retain: bool = False) -> None:
        self.messages.append((topic, json.loads(payload), retain))


def test_sensors_are_announced_once_and_get_every_reading():
    broker = Broker()
    sensors = Sensors(broker, "hall")
    announced = discovery("hall")
    assert broker.messages == [(topic, payload, True) for topic, payload in announced.items()]
    turn = Turn(MODEL, Baseline(speech_dur=READY_DUR, mean=np.zeros(3)))
    turn.push(clip(0), 16000)
    reading = turn.stop()
    sensors.publish(reading)
    topic, payload = state(reading, "hall")
    assert broker.messages[len(announced) :] == [(topic, payload, False)]
    for name in ("arousal", "dominance", "valence", "speech_ratio", "note"):
        sensor = announced[f"homeassistant/sensor/hall/{name}/config"]
        assert sensor["state_topic"] == topic and f"value_json.{name} " in sensor["value_template"]
        assert name in payload and sensor["device"]["identifiers"] == ["hall"]
        assert ("state_class" in sensor) == (name != "note")
    assert len({sensor["unique_id"] for sensor in announced.values()}) == len(announced) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "the following arguments are required: --asr"),
        (["--asr", "nonsense"], 2, "give tcp://HOST:PORT or unix://PATH"),
        (["--asr", "tcp://127.0.0.1:1", "--uri", "nonsense"], 2, "give tcp://HOST:PORT or unix://PATH"),
        (["--asr", "tcp://127.0.0.1:1", "--model", "macro"], 1, "wyoming-wav2small: 'macro': no such weights"),
        (["--asr", "tcp://127.0.0.1:1", "--baseline", "gone/me.json"], 1, "there is no folder gone; create it first"),
        (["--asr", "tcp://127.0.0.1:1", "--baseline", __file__], 1, "is not a baseline that wav2small wrote"),
        (["--asr", "tcp://127.0.0.1:1", "--mqtt-host", "127.0.0.1", "--mqtt-port", "1"], 1, "MQTT"),
    ],
)
def test_wrong_use_is_one_sentence(monkeypatch, capsys, arguments, code, words):
    monkeypatch.setattr("sys.argv", ["wyoming-wav2small", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_server()
    last = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == code and words in last and last.startswith("wyoming-wav2small: ")


def test_an_address_that_is_in_use_is_one_sentence(monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        uri = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("sys.argv", ["wyoming-wav2small", "--asr", "tcp://127.0.0.1:1", "--uri", uri])
        with pytest.raises(SystemExit):
            run_server()
    assert "address already in use" in capsys.readouterr().err
