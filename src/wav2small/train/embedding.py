"""A teacher's embedding as text, for storage in tables."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from wav2small.errors import ManifestError


def to_text(embedding: np.ndarray) -> str:
    """Encode an embedding, shape=(size,), as base64 of little-endian float16."""
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode()


def from_text(text: str, file: str) -> np.ndarray:
    """Decode an embedding that :func:`to_text` wrote.

    Args:
        text: base64 text
        file: name of the clip, for error messages

    Returns:
        float32, shape=(size,)

    Raises:
        ManifestError: if the text is not an embedding
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    except (binascii.Error, ValueError):
        raise ManifestError(
            f"{file}: its embedding is {text[:20]!r}, which is not base64 of float16. Label again."
        ) from None
