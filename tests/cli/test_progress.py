"""What commands report on standard error: bars, a line a minute in a log, what was written, and what Ctrl-C leaves."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner
from test_cli import on_a_terminal

from wav2small.cli import AFTER_CTRL_C, COMMANDS, main, progress


def test_a_log_has_a_line_a_minute_with_steps_loss_speed_and_time_left(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress_bar("train", unit="clips", size=64) as report:
        for clock[0], step in ((10.0, 11), (20.0, 21), (70.0, 71), (80.0, 81), (140.0, 141)):
            report(step, 1_200, "loss 0.412")
    assert capsys.readouterr().err.splitlines() == [
        "train: 71/1,200, loss 0.412, 64 clips/s, 0:18:49 left",
        "train: 141/1,200, loss 0.412, 64 clips/s, 0:17:39 left",
    ]


@pytest.mark.parametrize(("size", "text"), [(812, "812 bytes"), (3_449, "3.4 KB"), (1_249_000, "1.2 MB")])
def test_sizes_are_for_people(size, text):
    assert progress.size_text(size) == text


def test_what_was_written_is_reported_with_its_size(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("file\n" * 12)
    progress.report_written(tmp_path / "a.csv", "11 rows")
    progress.report_written(tmp_path, "11 clips")
    assert capsys.readouterr() == ("", f"{tmp_path}/a.csv: 11 rows, 60 bytes\n{tmp_path}: 11 clips\n")


@pytest.mark.slow
def test_a_line_on_a_terminal_is_above_the_bar_and_the_bar_goes_on():
    program = (
        "import time; from wav2small.cli import progress; progress.PATIENCE_DUR = 0\n"
        "with progress.progress_bar('train', unit='clips', size=64) as report:\n"
        "    for step in range(1, 5):\n"
        "        time.sleep(0.2); report(step, 4, f'loss 0.{step}')\n"
        "        if step == 2: progress.say('step 2: dev CCC 0.5')\n"
    )
    seen = on_a_terminal([sys.executable, "-c", program]).decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"(^|[\r\n])step 2: dev CCC 0\.5\r?\n", plain), "the line stands alone"
    assert re.search(r"train .*3/4, loss 0\.3, \S+ clips/s", plain.partition("dev CCC 0.5")[2]), "the bar goes on"


@pytest.mark.parametrize(
    ("name", "said"), [("head", "nothing was written"), ("label", "the same command continues"), ("predict", None)]
)
def test_ctrl_c_is_130_with_what_to_do_next(monkeypatch, tmp_path, name, said):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.get_command(None, name), "callback", interrupt)
    required = ["-o", str(tmp_path / "out.csv")] if said else []
    result = CliRunner().invoke(main, [name, "any", *required])
    assert result.exit_code == 130
    assert result.stderr.startswith(f"wav2small: interrupted; {said}") if said else result.stderr == ""


def test_every_long_command_says_what_ctrl_c_leaves():
    assert set(COMMANDS) - set(AFTER_CTRL_C) == {"predict", "stream", "demo", "models", "mcp", "serve"}
