"""A torch student with the methods of the Hugging Face hub, which read and write the folders of ``export --to hub``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor

from wav2small.errors import WeightsError
from wav2small.export.hub import export_hub
from wav2small.network.config import Network
from wav2small.network.weights import read_safetensors, sha256_of, to_bytes, write_safetensors
from wav2small.runtime.model import locate
from wav2small.train.students import StudentNet, described, description, from_arrays, to_arrays

MEASURED = ("ccc", "dev_ccc", "recipe", "step", "version")
"""Metadata keys that are about certain weights, and not about those that result from further training."""


class PretrainedStudent(StudentNet, PyTorchModelHubMixin):
    """A student with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    Args:
        net: the student
        metadata: of its weights: name, licence, training data ...; ``net`` is described by ``student`` and ``network``

    Attributes:
        net: the student, of which only trained parameters require gradients
        metadata: what the next ``save_pretrained`` writes

    Examples:
        >>> import torch
        >>> from wav2small.export.pretrained import PretrainedStudent
        >>> student = PretrainedStudent.from_pretrained("micro")
        >>> emotion, embedding = student(torch.zeros(2, 16000))
        >>> emotion.shape, embedding.shape
        (torch.Size([2, 3]), torch.Size([2, 128]))
    """

    def __init__(self, net: StudentNet, metadata: Mapping[str, str]) -> None:
        super().__init__()
        self.net, self.metadata = net, dict(metadata)
        self.embedding_size, self.min_length = net.embedding_size, net.min_length
        self._before = self._digest()

    def log_mel(self, signal: Tensor) -> Tensor:
        """Audio at 16 kHz, shape=(batch, samples), to dB in float32, shape=(batch, frames, mels)."""
        return self.net.log_mel(signal)

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel to emotion, shape=(batch, 3), not clipped, and embedding, shape=(batch, embedding_size)."""
        return self.net.features_to_emotion(log_mel)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the cache and the login are those of the environment
        cls, name: str | Path, *, revision: str | None = None
    ) -> PretrainedStudent:
        """A student with float32 weights, in evaluation mode: batch norms use their stored statistics.

        Args:
            name: a shipped name, a safetensors file, a folder that ``export --to hub`` or ``save_pretrained`` wrote, or
                ``owner/name`` of the hub, with ``revision`` or as ``owner/name@revision``
            revision: commit, tag or branch of the hub

        Raises:
            WeightsError: if the weights are not found, damaged, not those of the student, or integers
        """
        path = locate(f"{name}@{revision}" if revision else name, ".safetensors")
        arrays, metadata = read_safetensors(path)
        student = described(metadata, str(path))
        if isinstance(student, Network) and student.integers and "input_scale" not in arrays:
            raise WeightsError(f"{name}: its weights are integers, which torch does not train. Give float32 weights.")
        return cls(from_arrays(arrays, student, str(path)), metadata).eval()

    def save_pretrained(  # type: ignore[override]  # refuses what the mixin would write
        self,
        save_directory: str | Path,
        *,
        config: None = None,
        model_card_kwargs: None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> str | None:
        """Write the folder of ``export --to hub``, as a whole or not at all; if asked, push it.

        If the weights were trained since they were loaded, CCC, version and recipe of the old ones are left out.

        Args:
            save_directory: a new folder, or one that this method or export wrote
            config: must be None: config.json follows from the network and ``metadata``
            model_card_kwargs: must be None: so does the card
            push_to_hub: whether to push the folder
            repo_id: ``owner/name``; None is the name of the folder
            **options: of ``push_to_hub``

        Returns:
            the address of the commit if it was pushed

        Raises:
            WeightsError: as :func:`wav2small.export.hub.export_hub`, or if ``config`` or ``model_card_kwargs`` is given
        """
        if config is not None or model_card_kwargs is not None:
            raise WeightsError(
                "save_pretrained writes config.json and the card from the weights' metadata and takes neither config "
                "nor model_card_kwargs. Change the attribute metadata of the student."
            )
        folder = Path(save_directory)
        metadata = self.metadata | description(self.net, self.metadata.get("student", ""))
        if self._digest() != self._before:
            metadata = {key: value for key, value in metadata.items() if key not in MEASURED}
        with tempfile.TemporaryDirectory() as temporary:
            weights = Path(temporary) / f"{folder.name}.safetensors"
            write_safetensors(weights, to_arrays(self.net), metadata)
            export_hub(weights, folder)
        return str(self.push_to_hub(repo_id or folder.name, **options)) if push_to_hub else None

    def _digest(self) -> str:
        """sha256 of the arrays."""
        return sha256_of(to_bytes(to_arrays(self.net), {}))
