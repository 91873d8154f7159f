"""wav2small enroll: the baseline of a speaker, from a few sentences as they usually speak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wav2small.cli.options import channel_option, model_option, vad_option

if TYPE_CHECKING:
    from wav2small.runtime.stream import Stream

MIN_DUR = 5.0
"""Seconds of speech that an enrolled baseline needs; more is better."""


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Write the baseline to FILE, JSON.")
@click.option("--device", metavar="NAME|NUMBER", help="Microphone, by its number or a part of its name.")
@click.option(
    "--seconds",
    type=click.FloatRange(MIN_DUR),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Speech to record from the microphone.",
)
@model_option
@click.option("--calibrated", is_flag=True, help="For streams with --calibrated or --intervals.")
@channel_option
@vad_option
def command(
    files: tuple[str, ...],
    output: str,
    device: str | None,
    seconds: float,
    model: str,
    calibrated: bool,
    channel: int | None,
    vad: str,
) -> None:
    """Record what a speaker's voice is usually like, for stream --baseline.

    Give FILEs of one speaker, or say three sentences to the microphone as you usually do. The baseline holds the mean
    and the spread of arousal, dominance and valence, no audio, and belongs to one model.

    \b
    Examples:
      wav2small enroll -o me.json
      wav2small enroll anna1.wav anna2.wav -o anna.json --calibrated
      wav2small stream --baseline me.json
    """
    from wav2small.errors import AudioError
    from wav2small.files import check_writable
    from wav2small.network.config import OUTPUTS
    from wav2small.runtime.baseline import Baseline
    from wav2small.runtime.model import load
    from wav2small.runtime.stream import Stream

    check_writable(output)
    baseline = Baseline()
    stream = Stream(load(model, calibration=calibrated), 1.0, 3.0, channel=channel, vad=vad, baseline=baseline)
    if files:
        for file in files:
            add_file(stream, file)
    else:
        record(stream, device, seconds)
    if baseline.speech_dur < MIN_DUR:
        raise AudioError(
            f"{baseline.speech_dur:.1f} s of speech, and a baseline needs {MIN_DUR:g} s or more; nothing was written"
        )
    baseline.is_enrolled = True
    baseline.save(output)
    means = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(OUTPUTS, baseline.mean, strict=True))
    click.echo(f"{output}: {baseline.speech_dur:.1f} s of speech; {means}", err=True)


def add_file(stream: Stream, file: str) -> None:
    """Include a file, from a stream's start to its end."""
    from wav2small.audio.sources import file_audio

    with file_audio(file) as audio:
        for _ in stream.run(audio.chunks, audio.sampling_rate):
            pass
    stream.reset()


def record(stream: Stream, device: str | None, seconds: float) -> None:
    """Include the microphone until there is so much speech, or Ctrl-C."""
    from wav2small.audio.sources import microphone_audio
    from wav2small.cli.progress import progress_bar

    assert stream.baseline is not None
    click.echo("Say three sentences as you usually speak.", err=True)
    with microphone_audio(device) as audio, progress_bar("speech, s") as progress:
        try:
            for chunk in audio.chunks:
                stream.push(chunk, audio.sampling_rate)
                progress(min(seconds, stream.baseline.speech_dur), seconds)
                if stream.baseline.speech_dur >= seconds:
                    return
        except KeyboardInterrupt:
            pass
    stream.finish()
