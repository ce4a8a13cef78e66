"""Weights laid over a tower's own: the blocks that were tuned, and nothing else.

A tuned tower is a published one with a few tensors changed. Only these are kept, in half precision:
a small file, and it stays plain whose work the rest is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.config import ImageTowerConfig
from saywhere.errors import TowerError
from saywhere.files import atomic_path
from saywhere.towers.checkpoint import hash_files, read_note, read_safetensors
from saywhere.towers.filling import fill_part

if TYPE_CHECKING:
    from torch import nn

_SHIPPED = {"shipped": Path(__file__).with_name("shipped.safetensors")}
_BASE = "base"  # the note in the file: SHA-256 of the weights it lies over


def lay_over(module: nn.Module, config: ImageTowerConfig, base: str) -> tuple[str, str]:
    """Replace tensors of ``module`` by those of ``config.tuned``.

    Args:
        base: SHA-256 of the weights that ``module`` holds.

    Returns:
        name and SHA-256 of the file.

    Raises:
        TowerError: no such file, altered, tuned from other weights, or tensors that do not fit.
    """
    path = _SHIPPED.get(config.tuned, Path(config.tuned))
    if not path.is_file():
        raise TowerError(
            f"tuned weights {config.tuned!r}: no such file; use {' or '.join(_SHIPPED)}, a "
            'file that saywhere towers tune wrote, or towers.image.tuned = ""'
        )
    digest, _ = hash_files([path], config.tuned_sha256, "towers.image.tuned_sha256")
    state = read_safetensors([path])
    known = read_note(path, _BASE)
    if known not in (None, base):
        raise TowerError(
            f"{path}: was tuned from the weights with SHA-256 {known}, these have {base}; "
            'set towers.image.weights to those, or towers.image.tuned = ""'
        )
    fill_part(module, state, path)
    return path.name, digest


def save_changes(module: nn.Module, original: nn.Module, base: str, path: Path) -> int:
    """Write the tensors in which ``module`` differs from ``original``, in half precision.

    Args:
        base: SHA-256 of the weights that ``original`` holds.

    Returns:
        how many numbers were written.
    """
    import torch
    from safetensors.torch import save_file

    own = original.state_dict()
    changed = {
        name: value.to(torch.float16).contiguous()
        for name, value in ((name, value.cpu()) for name, value in module.state_dict().items())
        if not torch.equal(value, own[name])
    }
    with atomic_path(path) as temporary:
        save_file(changed, temporary, metadata={_BASE: base})
    return sum(value.numel() for value in changed.values())
