"""Exported towers at work: arrays in, arrays out, by ONNX Runtime on a CPU or a GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saywhere.adapters import Adapter, check_sites
from saywhere.errors import ExpertError, InputError, TowerError
from saywhere.hardware import Device, Runtime
from saywhere.types import FloatArray, IntArray

if TYPE_CHECKING:
    import onnxruntime

METADATA_KEY = "saywhere"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# TF32 would cut the mantissa to ten bits: features of a GPU must match those of a CPU in the cache.
_OPTIONS = {_CUDA: {"use_tf32": "0"}}


class _Tower:
    """What both towers share: the session, and the provenance that travels in the file.

    Attributes:
        fingerprint: identifies the numbers this tower gives: hash of its configuration and weights.
        dimension: of the features.
        sites: shape of each array that an adapter of this tower holds, the rank's axis as 0; empty
            for a tower that takes none.
    """

    required: tuple[str, ...] = ("fingerprint", "dimension")

    def __init__(self, path: Path, *, runtime: Runtime | None = None) -> None:
        self.path = path
        self._session = _open_session(path, runtime or Runtime())
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
        workers: how many threads may best call ``encode`` at a time. Each call runs on one thread:
            batches side by side never wait for each other, as the threads of one batch do after
            every layer. A GPU takes one call at a time. No feature depends on how many there are,
            nor on the batch it is in.
    """

    required = (*_Tower.required, "mean", "std", "native_size", "any_size")
    size_step = 32
    workers = 1

    def __init__(self, path: Path, *, runtime: Runtime | None = None) -> None:
        runtime = runtime or Runtime()
        # Batches side by side on a thread each: faster than one batch split over the threads.
        super().__init__(path, runtime=replace(runtime, threads=1))
        self.workers = 1 if _CUDA in self._session.get_providers() else runtime.threads
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
        """(n, h, w, 3) uint8 RGB -> (n, 3, h, w) float32 by the tower's own mean and deviation.

        Planes first: on interleaved pixels the same arithmetic takes ten times as long.
        """
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        batch: FloatArray = np.multiply(planes, self._scale, dtype=np.float32)  # 0..255 scale
        batch += self._shift
        return batch


class TextTower(_Tower):
    """A frozen text tower with its tokenizer.

    Features are pooled tokens of unit length, and, where the tower has some, static words of unit
    length behind them.
    """

    required = (*_Tower.required, "tokenizer", "pad_id", "pad_token", "max_tokens")
    batch_size = 64

    def __init__(self, path: Path, *, runtime: Runtime | None = None) -> None:
        super().__init__(path, runtime=runtime)
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(self.metadata["tokenizer"])
        self._tokenizer.enable_truncation(self.metadata["max_tokens"])
        self._tokenizer.enable_padding(
            pad_id=self.metadata["pad_id"], pad_token=self.metadata["pad_token"]
        )

    def encode(self, texts: Sequence[str], adapter: Adapter | None = None) -> FloatArray:
        """Features of ``texts`` in their order: (n, dimension) float32.

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

    def knows(self, word: str) -> bool:
        """Whether a word is one token, rather than pieces of others."""
        return len(self._tokenizer.encode(word, add_special_tokens=False).ids) == 1

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


def choose_providers(device: Device, available: Sequence[str]) -> list[str]:
    """ONNX Runtime's execution providers for ``device``, the preferred one first.

    Args:
        available: what the installed ONNX Runtime was built with, as it lists them.

    Raises:
        TowerError: ``cuda`` without a provider for it.
    """
    if device == "cpu":
        return [_CPU]
    if _CUDA in available:
        return [_CUDA, _CPU]
    if device == "cuda":
        raise TowerError(
            f"device cuda: this ONNX Runtime has no {_CUDA} (it has {', '.join(available)}); "
            "run: pip install onnxruntime-gpu, or choose --device cpu"
        )
    return [_CPU]


def _open_session(path: Path, runtime: Runtime) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle workers must sleep, not spin: the thread that decodes the next images needs the core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = choose_providers(runtime.device, onnxruntime.get_available_providers())
    if _CUDA in providers:
        with redirect_stdout(sys.stderr):  # it prints what it misses; stdout is for results
            onnxruntime.preload_dlls()  # finds the CUDA libraries of pip's nvidia packages
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            sess_options=options,
            providers=providers,
            provider_options=[_OPTIONS.get(name, {}) for name in providers],
            enable_fallback=0,  # its own falling back prints to stdout
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        cause = str(error).splitlines()[0][:200]
        raise TowerError(
            f"{path}: cannot be loaded ({cause}); delete it to export it anew"
        ) from None
    if runtime.device == "cuda" and _CUDA not in session.get_providers():
        raise TowerError(
            "device cuda: the CUDA provider did not start, its libraries or the driver are "
            "missing or too old; run: pip install 'onnxruntime-gpu[cuda,cudnn]', or choose "
            "--device cpu"
        )
    return session
