"""The towers of a set of experts: the shared ones, and merged ones where their folder carries some.

An expert's adapter runs unmerged over the shared tower, unless the folder has a tower whose weights
have taken it up (``portable`` writes such). Which it is changes time and memory; the numbers differ
by rounding only, so the experts' hash is the same and an index serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from saywhere.adapters import Adapter
from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.errors import ExpertError
from saywhere.expert_set import ExpertSet
from saywhere.hardware import Runtime
from saywhere.manifest import TOWERS_FOLDER
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.towers.cache import carried_merged, fingerprint

Side = Literal["image", "text"]
SIDES: tuple[Side, ...] = ("image", "text")
T = TypeVar("T", ImageTower, TextTower)


class ExpertTowers:
    """Opens each tower when it is first asked for, and once."""

    def __init__(self, experts: ExpertSet, runtime: Runtime | None = None) -> None:
        self._experts, self._runtime = experts, runtime
        self._images: dict[str, ImageTower] = {}
        self._texts: dict[str, TextTower] = {}

    def image(self, adapter: Adapter | None = None) -> tuple[ImageTower, Adapter | None]:
        """The image tower for ``adapter``, and what of the adapter it still has to be given.

        Raises:
            ExpertError: the tower is not the one these experts were trained with.
            TowerError: as ``towers.image_tower``.
        """
        return self._open("image", self._images, (image_tower, ImageTower), adapter)

    def text(self, adapter: Adapter | None = None) -> tuple[TextTower, Adapter | None]:
        """As ``image``, for texts."""
        return self._open("text", self._texts, (text_tower, TextTower), adapter)

    def _open(
        self,
        side: Side,
        opened: dict[str, T],
        makers: tuple[Callable[..., T], Callable[..., T]],
        adapter: Adapter | None,
    ) -> tuple[T, Adapter | None]:
        """The tower from ``opened``, or made: the shared one by the first maker."""
        experts, (shared, from_file) = self._experts, makers
        path = merged_file(experts, side, adapter) if adapter else None
        key = adapter.hash if adapter and path else ""
        if key not in opened:
            if path:
                tower = from_file(path, runtime=self._runtime)
            else:
                config, sites = tower_settings(experts, side)
                tower = shared(
                    config, runtime=self._runtime, bundle=_bundle(experts), adapter=sites
                )
            check_tower(experts, side, (tower.path, tower.metadata), key)
            opened[key] = tower
        return opened[key], None if path else adapter


def merged_file(experts: ExpertSet, side: Side, adapter: Adapter) -> Path | None:
    """The tower in the experts' folder that has taken up ``adapter``; None: it stays unmerged."""
    bundle = _bundle(experts)
    if bundle is None:
        return None
    return carried_merged(tower_settings(experts, side)[0], bundle, adapter.hash)


def merged_files(experts: ExpertSet) -> dict[tuple[str, Side], Path]:
    """All such towers, by expert and side."""
    return {
        (name, side): path
        for name, side, adapter in adapters_of(experts)
        if (path := merged_file(experts, side, adapter))
    }


def adapters_of(experts: ExpertSet) -> Iterator[tuple[str, Side, Adapter]]:
    """Name of the expert, side and adapter, for each there is."""
    for expert in experts.experts:
        if expert.image_adapter is not None:
            yield expert.name, "image", expert.image_adapter
        if expert.text_adapter is not None:
            yield expert.name, "text", expert.text_adapter


def tower_settings(
    experts: ExpertSet, side: Side
) -> tuple[ImageTowerConfig | TextTowerConfig, AdapterConfig]:
    """Of one side: the tower's configuration, and that of its adapters."""
    config = experts.config
    if side == "image":
        return config.towers.image, config.adapters.image
    return config.towers.text, config.adapters.text


def check_tower(
    experts: ExpertSet, side: Side, tower: tuple[Path, Mapping[str, Any]], merged: str = ""
) -> None:
    """Refuse a tower that is not the experts' own.

    Args:
        tower: its file and the metadata in it.
        merged: hash of the adapter that it is to have taken up.

    Raises:
        ExpertError: another tower, or another adapter.
    """
    path, metadata = tower
    expected, found = experts.towers[side], str(metadata.get("fingerprint"))
    if merged:
        config, weights = tower_settings(experts, side)[0], str(metadata.get("weights"))
        if found == fingerprint(config, weights, merged):
            found = fingerprint(config, weights)
    if found != expected:
        raise ExpertError(
            f"{path}: is not the {side} tower the experts were trained with ({expected[:12]}, this "
            f"is {found[:12]}); copy the experts' whole folder again, or train anew"
        )


def _bundle(experts: ExpertSet) -> Path | None:
    return experts.folder / TOWERS_FOLDER if experts.folder else None
