"""Licences of weights: a non-commercial licence of the teacher or the data also applies to the trained weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

OURS = "Apache-2.0"
"""Licence of the project's own weights, unless a teacher's or a data set's licence restricts them."""


def joined(licences: Iterable[str]) -> str:
    """An SPDX expression of all licences, each once: ``MIT AND CC-BY-NC-SA-4.0``."""
    parts = [part for licence in licences for part in licence.split(" AND ") if part]
    return " AND ".join(dict.fromkeys(parts))


def is_non_commercial(licence: str) -> bool:
    """Whether a licence excludes commercial use: NC, non-commercial, research or academic only."""
    return bool(re.search(r"\bNC\b|non-?commercial|research|academic", licence, re.IGNORECASE))


def of_weights(sources: Iterable[str]) -> str:
    """Licence of weights trained with sources under these licences: their non-commercial licences, else ``OURS``."""
    return joined(part for part in joined(sources).split(" AND ") if is_non_commercial(part)) or OURS
