"""Exported towers at work: arrays in, arrays out, by ONNX Runtime on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saywhere.adapters import Adapter, check_sites
from saywhere.errors import ExpertError, InputError, TowerError
from saywhere.types import FloatArray, IntArray

if TYPE_CHECKING:
    import onnxruntime

METADATA_KEY = "saywhere"


class _Tower:
    """What both towers share: the session, and the provenance that travels in the file.

    Attributes:
        fingerprint: identifies the numbers this tower gives: hash of its configuration and weights.
        dimension: of the features.
        sites: shape of each array that an adapter of this tower holds, the rank's axis as 0; empty
            for a tower that takes none.
    """

    required: tuple[str, ...] = ("fingerprint", "dimension")

    def __init__(self, path: Path, *, threads: int) -> None:
        self.path = path
        self._session = _open_session(path, threads)
        raw = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.metadata: dict[str, Any] = _read_metadata(path, raw, self.required)
        self.fingerprint: str = self.metadata["fingerprint"]
        self.dimension: int = self.metadata["dimension"]
        self.sites: Mapping[str, tuple[int, ...]] = {
            name: tuple(shape) for name, shape in self.metadata.get("sites", {}).items()
        }

    def _run(self, inputs: dict[str, NDArray[Any]], adapter: Adapter | None) -> FloatArray:
        """Features of a batch.

        An adapter's arrays stand in for the graph's zeros in this one call: the session and its
        weights are shared by all adapters, and by threads that use different ones.
        """
        if adapter is not None:
            name = str(self.metadata.get("name"))
            if not self.sites:
                raise ExpertError(
                    f"tower {name!r} takes no adapters; use the experts' own towers folder"
                )
            check_sites(adapter, self.sites, name)
            inputs = {**inputs, **adapter.arrays}
        features: FloatArray = self._session.run(None, inputs)[0]
        return features


class ImageTower(_Tower):
    """A frozen image tower.

    Features are the average-pooled stages, in order, then the last layer: ``dimension`` numbers,
    neither standardised nor normalised.

    Attributes:
        native_size: edge in pixels of the images it was trained with.
        any_size: whether it takes other multiples of ``size_step``, too.
    """

    required = (*_Tower.required, "mean", "std", "native_size", "any_size")
    size_step = 32

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        self.native_size: int = self.metadata["native_size"]
        self.any_size: bool = self.metadata["any_size"]
        mean = np.asarray(self.metadata["mean"], np.float32) * 255
        std = np.asarray(self.metadata["std"], np.float32) * 255
        self._scale = (1 / std).reshape(1, 3, 1, 1)
        self._shift = (-mean / std).reshape(1, 3, 1, 1)

    def check_size(self, size: int) -> None:
        """Refuse an edge in pixels at which the numbers would be wrong.

        Raises:
            TowerError: not the native size, nor a multiple of 32 for a tower that takes those.
        """
        if size != self.native_size and (not self.any_size or size % self.size_step):
            takes = f"{self.native_size} only"
            if self.any_size:
                takes = f"{self.native_size} or any multiple of {self.size_step}"
            raise TowerError(
                f"image tower {self.metadata.get('name')}: cannot see {size} pixels, it takes "
                f"{takes}; set towers.image.size"
            )

    def encode(self, pixels: NDArray[np.uint8], adapter: Adapter | None = None) -> FloatArray:
        """Features of a batch.

        Args:
            pixels: (n, edge, edge, 3) uint8 RGB; see ``check_size`` for edges.
            adapter: whose updates the tower's weights get.

        Returns:
            (n, dimension) float32.

        Raises:
            TowerError: an edge the tower does not take.
            ExpertError: an adapter of another tower.
        """
        for edge in pixels.shape[1:3]:
            self.check_size(edge)
        return self._run({"pixels": self.normalise(pixels)}, adapter)

    def normalise(self, pixels: NDArray[np.uint8]) -> FloatArray:
        """(n, h, w, 3) uint8 RGB -> (n, 3, h, w) float32 by the tower's own mean and deviation."""
        batch = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        batch *= self._scale
        batch += self._shift
        return np.ascontiguousarray(batch)


class TextTower(_Tower):
    """A frozen text tower with its tokenizer; features are pooled and L2-normalised."""

    required = (*_Tower.required, "tokenizer", "pad_id", "pad_token", "max_tokens")
    batch_size = 64

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(self.metadata["tokenizer"])
        self._tokenizer.enable_truncation(self.metadata["max_tokens"])
        self._tokenizer.enable_padding(
            pad_id=self.metadata["pad_id"], pad_token=self.metadata["pad_token"]
        )

    def encode(self, texts: Sequence[str], adapter: Adapter | None = None) -> FloatArray:
        """Features of ``texts`` in their order: (n, dimension) float32, unit length.

        Raises:
            InputError: a text that is not Unicode.
            ExpertError: an adapter of another tower.
        """
        check_unicode(texts)
        out = np.empty((len(texts), self.dimension), np.float32)
        # Texts of like length share a batch: padding costs as much as words.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            ids, mask = self.tokenize([texts[index] for index in chosen])
            out[chosen] = self._run({"ids": ids, "mask": mask}, adapter)
        return out

    def tokenize(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Token ids and mask, (n, longest) int64, cut at the tower's limit and padded."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.asarray([encoding.ids for encoding in encodings], np.int64)
        mask = np.asarray([encoding.attention_mask for encoding in encodings], np.int64)
        return ids, mask


def check_unicode(texts: Sequence[str]) -> None:
    """Refuse lone surrogates, as they come from undecodable bytes on a command line.

    Raises:
        InputError: a text that has no UTF-8 form.
    """
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            shown = ascii(text if len(text) <= 60 else f"{text[:60]}…")
            raise InputError(f"{shown}: is not valid Unicode text; write it in UTF-8") from None


def _read_metadata(path: Path, raw: str | None, required: Sequence[str]) -> dict[str, Any]:
    try:
        found = json.loads(raw or "")
    except ValueError:
        found = None
    metadata: dict[str, Any] = found if isinstance(found, dict) else {}
    missing = [name for name in required if name not in metadata]
    if missing:
        raise TowerError(
            f"{path}: was not exported by saywhere as this kind of tower (no {missing[0]}); "
            "delete it to export it anew"
        )
    return metadata


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle workers must sleep, not spin: the thread that decodes the next images needs the core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        cause = str(error).splitlines()[0][:200]
        raise TowerError(
            f"{path}: cannot be loaded ({cause}); delete it to export it anew"
        ) from None
