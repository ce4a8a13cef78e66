"""Exported towers at work: arrays in, arrays out, by ONNX Runtime on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import TowerError
from saywhere.types import FloatArray

if TYPE_CHECKING:
    import onnxruntime

METADATA_KEY = "saywhere"


class _Tower:
    """What both towers share: the session, and the provenance that travels in the file.

    Attributes:
        fingerprint: identifies the numbers this tower gives: hash of its configuration and weights.
        dimension: of the features.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        self.path = path
        self._session = _open_session(path, threads)
        raw = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if raw is None:
            raise TowerError(f"{path}: was not exported by saywhere; delete it to export it anew")
        self.metadata: dict[str, Any] = json.loads(raw)
        self.fingerprint: str = self.metadata["fingerprint"]
        self.dimension: int = self.metadata["dimension"]


class ImageTower(_Tower):
    """A frozen image tower.

    Features are the average-pooled stages, in order, then the last layer: ``dimension`` numbers,
    neither standardised nor normalised.
    """

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        mean = np.asarray(self.metadata["mean"], np.float32) * 255
        std = np.asarray(self.metadata["std"], np.float32) * 255
        self._scale = (1 / std).reshape(1, 3, 1, 1)
        self._shift = (-mean / std).reshape(1, 3, 1, 1)

    def encode(self, pixels: NDArray[np.uint8]) -> FloatArray:
        """Features of a batch.

        Args:
            pixels: (n, height, width, 3) uint8 RGB.

        Returns:
            (n, dimension) float32.
        """
        # Normalised here with the tower's own mean and standard deviation (0..255 scale).
        batch = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        batch *= self._scale
        batch += self._shift
        features: FloatArray = self._session.run(None, {"pixels": np.ascontiguousarray(batch)})[0]
        return features


class TextTower(_Tower):
    """A frozen text tower with its tokenizer; features are pooled and L2-normalised."""

    batch_size = 64

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(self.metadata["tokenizer"])
        self._tokenizer.enable_truncation(self.metadata["max_tokens"])
        self._tokenizer.enable_padding(
            pad_id=self.metadata["pad_id"], pad_token=self.metadata["pad_token"]
        )

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Features of ``texts`` in their order: (n, dimension) float32, unit length."""
        out = np.empty((len(texts), self.dimension), np.float32)
        # Texts of like length share a batch: padding costs as much as words.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            out[chosen] = self._encode_batch([texts[index] for index in chosen])
        return out

    def _encode_batch(self, texts: list[str]) -> FloatArray:
        encodings = self._tokenizer.encode_batch(texts)
        ids = np.asarray([encoding.ids for encoding in encodings], np.int64)
        mask = np.asarray([encoding.attention_mask for encoding in encodings], np.int64)
        features: FloatArray = self._session.run(None, {"ids": ids, "mask": mask})[0]
        return features


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        cause = str(error).splitlines()[0][:200]
        raise TowerError(
            f"{path}: cannot be loaded ({cause}); delete it to export it anew"
        ) from None
