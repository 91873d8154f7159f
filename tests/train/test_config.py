"""Defaults: each is in one dataclass, and the command line has no other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import click
import pytest

from wav2small.cli import main
from wav2small.train import config
from wav2small.train.config import (
    AdaptConfig,
    AugmentConfig,
    BodyConfig,
    DistilConfig,
    FinetuneConfig,
    FitConfig,
    LabelConfig,
    TrainConfig,
)

CONFIGS = {
    "train": [TrainConfig],
    "fit": [FitConfig, BodyConfig],
    "finetune": [FinetuneConfig],
    "augment": [AugmentConfig],
    "label": [LabelConfig],
    "distil": [DistilConfig],
}
"""Command -> dataclasses whose fields are options under the same name."""
OTHER = {("train", "start"), ("fit", "name"), ("fit", "layers")}
"""Options that share the name of a field and mean something else."""
RENAMED = {
    ("fit", "body"): (BodyConfig, "name"),
    ("fit", "layers"): (BodyConfig, "layers"),
    ("finetune", "adapt"): (AdaptConfig, "kind"),
    ("finetune", "adapt_steps"): (AdaptConfig, "steps"),
    ("finetune", "clusters"): (AdaptConfig, "clusters"),
}


def received(command: str) -> dict[str, object]:
    """What a command receives for each option that is left out."""
    found = main.get_command(click.Context(main), command)
    required = [text for option in found.params if option.required for text in (*option.opts[:1], "x")]
    arguments = [text for text in required if text not in ("manifests", "labels", "source")]
    return found.make_context(command, arguments).params


@pytest.mark.parametrize("command", CONFIGS)
def test_the_command_line_takes_its_defaults_from_the_dataclasses(command):
    found, compared = received(command), 0
    for kind in CONFIGS[command]:
        for name in {field.name for field in fields(kind)} & found.keys():
            if (command, name) not in OTHER:
                assert found[name] == getattr(kind(), name), name
                compared += 1
    assert compared >= 2
    for (other, option), (kind, name) in RENAMED.items():
        assert other != command or found[option] == getattr(kind(), name), option


def test_poolings_are_those_that_are_implemented():
    pytest.importorskip("torch", reason="needs the extra train")
    from wav2small.train.teachers.pooling import FIXED

    assert tuple(FIXED) == config.FIXED_POOLINGS


def test_settings_load_nothing_heavy():
    script = (
        "import sys, wav2small.train.config\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
