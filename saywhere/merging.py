"""Towers with an expert's adapter merged into their weights, to carry along with the experts.

Each is a whole tower of its own: as many megabytes again on disk and in memory, and no low-rank
products at run time.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from saywhere.adapters import Adapter
from saywhere.config import ImageTowerConfig
from saywhere.errors import InputError
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import Side, adapters_of, check_tower, merged_file, tower_settings
from saywhere.towers.cache import NO_ADAPTER, find_tower
from saywhere.towers.onnxfile import read_onnx


def write_merged(experts: ExpertSet, folder: Path) -> dict[str, Path]:
    """One tower for each adapter of ``experts`` into ``folder``.

    Needs torch and the towers' weights, unless the experts' own folder carries them already.

    Returns:
        the files, by expert and side.

    Raises:
        InputError: no expert has an adapter.
        TowerError, MissingExtraError: as ``towers.export``.
        ExpertError: the weights at hand are not those the experts were trained with.
    """
    wanted = list(adapters_of(experts))
    if not wanted:
        raise InputError(
            f"{experts.folder}: its experts have no adapters, so there is nothing to merge; "
            "export without --merged"
        )
    made = {}
    for name, side, adapter in wanted:
        carried = merged_file(experts, side, adapter)
        source = carried or _made(experts, side, adapter)
        target = made[f"{name} {side}"] = folder / source.name
        if carried:
            shutil.copyfile(source, target)
        else:
            shutil.move(source, target)  # in the cache it would serve nobody else
        check_tower(experts, side, (target, read_onnx(target).metadata), adapter.hash)
    return made


def _made(experts: ExpertSet, side: Side, adapter: Adapter) -> Path:
    """The merged tower in the cache, exported where it is not there."""
    from saywhere.towers.export import export_image_tower, export_text_tower

    config, _ = tower_settings(experts, side)
    if found := find_tower(config, None, NO_ADAPTER, adapter.hash):
        return found
    if isinstance(config, ImageTowerConfig):
        return export_image_tower(config, merged=adapter)
    return export_text_tower(config, merged=adapter)
