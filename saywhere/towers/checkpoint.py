"""Weight files: safetensors in, a pickle only through one explicit, hash-pinned conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.errors import InputError, MissingExtraError, TowerError
from saywhere.files import atomic_path, hash_file, hash_text

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
# A zip archive is what torch.save writes; the others open a bare pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded into a tower; it travels in the exported file and beside the experts.

    Attributes:
        architecture: as the library that built it calls it.
        weight_hash: SHA-256 of the one weight file; of the hashes of several; or, without files
            (random weights), of the numbers themselves.
        files: name and SHA-256 of each weight file, in order.
        parameters: numbers in the module, buffers not counted.
        unused: keys that were in the files and are no part of this tower.
    """

    architecture: str
    weight_hash: str
    files: tuple[tuple[str, str], ...] = ()
    parameters: int = 0
    unused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON; of the unused keys their top names, a tower of another model has hundreds."""
        return {
            "architecture": self.architecture,
            "weights": self.weight_hash,
            "files": [{"name": name, "sha256": digest} for name, digest in self.files],
            "parameters": self.parameters,
            "unused": sorted({key.split(".")[0] for key in self.unused}),
            "unused_keys": len(self.unused),
        }


def check_hash(path: Path, expected: str | None, setting: str) -> str:
    """The file's SHA-256, which must be the pinned one; ``setting`` is what pins it."""
    found = hash_file(path)
    if expected is None:
        raise TowerError(f"{path}: no SHA-256 is pinned for it; set {setting} = {found}")
    if found != expected:
        raise TowerError(
            f"{path}: SHA-256 is {found}, expected {expected}; it was altered or is another "
            f"file: fetch the pinned one again, or set {setting} for a file you trust"
        )
    return found


def hash_files(
    files: Sequence[Path], expected: str | None, setting: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Hash of all files together, and of each by name; the pin is one file's or all files'.

    Raises:
        TowerError: the hash is not the pinned one.
    """
    if len(files) == 1:
        path = files[0]
        digest = check_hash(path, expected, setting) if expected else hash_file(path)
        return digest, ((path.name, digest),)
    each = tuple((path.name, hash_file(path)) for path in files)
    together = hash_text(";".join(f"{name}:{digest}" for name, digest in each))
    if expected is not None and together != expected:
        raise TowerError(
            f"{files[0].parent}: SHA-256 of its {len(files)} weight files is {together}, expected "
            f"{expected}; fetch them again, or set {setting} for files you trust"
        )
    return together, each


def read_safetensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of all files by name, mapped from disk rather than copied.

    Raises:
        TowerError: a pickle, a damaged or truncated file, or a name that stands in two files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in files:
        refuse_pickle(path)
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from None
        if twice := sorted(found.keys() & state.keys()):
            raise TowerError(f"{path}: holds {twice[0]!r} a second time; fetch the files again")
        state |= found
    return state


def read_note(path: Path, name: str) -> str | None:
    """What a safetensors file says of itself under ``name``; None: nothing.

    Raises:
        TowerError: as ``read_safetensors``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(name)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def refuse_pickle(path: Path) -> None:
    """Refuse a pickle, whatever its name: reading one can run any code.

    Raises:
        TowerError: names the conversion.
    """
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise TowerError(
            f"{path}: cannot be read ({error.strerror}); check the path and its rights"
        ) from None
    if start.startswith(_PICKLE_STARTS) or path.suffix in PICKLE_SUFFIXES:
        raise TowerError(f"{path}: is a pickle, which can run code when read; {convert_hint(path)}")


def convert_hint(path: Path) -> str:
    """The command that makes safetensors of the pickle at ``path``."""
    out = path.with_name("model.safetensors")
    return (
        f"convert it once: saywhere towers convert {path} {out} "
        "--sha256 HASH (HASH: as its publisher states it)"
    )


def convert_pickle(path: Path, out: Path, sha256: str) -> LoadReport:
    """Convert a pickled state dict to safetensors, by torch's restricted unpickler.

    Args:
        sha256: of ``path``, as its publisher states it; nothing is read before it agrees.

    Returns:
        what was written, with the hash of ``out``.

    Raises:
        InputError: ``path`` is missing, of another hash, holds more than tensors, or ``out`` is
            there already.
    """
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtraError("towers convert", "train", error.name or "torch") from None

    if out.exists():
        raise InputError(f"{out}: is there already; delete it or choose another name")
    try:
        found = hash_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if found != sha256.lower():
        raise InputError(
            f"{path}: SHA-256 is {found}, expected {sha256}; it is damaged or another file: "
            "fetch it again, and compare with what its publisher states"
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError: whatever the bytes cause
        raise InputError(
            f"{path}: is no pickle of weights alone ({_brief(error)}); nothing of it was run: "
            "fetch the weights as safetensors, or another file"
        ) from None
    state = _tensors(path, loaded)
    with atomic_path(out) as temporary:
        # Safetensors refuses tensors that share memory, as tied weights do.
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, temporary)
    return LoadReport(
        architecture="state dict",
        weight_hash=hash_file(out),
        files=((path.name, found),),
        parameters=sum(tensor.numel() for tensor in state.values()),
    )


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    import torch

    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded:
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, no state dict; fetch the weights file"
        )
    other = [name for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise InputError(
            f"{path}: holds more than weights ({other[0]!r} is a "
            f"{type(loaded[other[0]]).__name__}); fetch the file that holds the weights alone"
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _damaged(path: Path, error: Exception) -> TowerError:
    return TowerError(f"{path}: is damaged or cut short ({_brief(error)}); fetch it again")


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]
