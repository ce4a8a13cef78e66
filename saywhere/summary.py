"""What a folder of experts holds, in numbers: parameters trained and frozen, towers, origin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saywhere.expert import Expert, Head
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import merged_files
from saywhere.manifest import FORMAT, TOWERS_FOLDER
from saywhere.portable import check_whole
from saywhere.types import FloatArray


@dataclass(frozen=True, slots=True)
class TowerSummary:
    """One frozen tower.

    Attributes:
        bytes: size of its file, tokenizer included.
        parameters: real numbers in its weights, as exported.
        in_folder: whether it travels with the experts; else it is the one of the cache.
    """

    name: str
    file: str
    fingerprint: str
    bytes: int
    parameters: int
    in_folder: bool


@dataclass(frozen=True, slots=True)
class ExpertSummary:
    """One expert; parameters are those of all its members, who share the adapters."""

    name: str
    members: int
    dimension: int
    image_heads: int
    text_heads: int
    logit_scales: int
    image_adapter: int
    text_adapter: int

    @property
    def parameters(self) -> int:
        """All that were trained."""
        heads = self.image_heads + self.text_heads + self.logit_scales
        return heads + self.image_adapter + self.text_adapter


@dataclass(frozen=True, slots=True)
class Summary:
    """A folder of experts, checked.

    Attributes:
        trained: parameters by part: everything that was learnt from captioned images.
        frozen: parameters by tower.
        statistics: means and deviations the inputs are standardised with; counted apart, since
            they are measured, not learnt.
        bytes: size of the folder on disk, towers included.
        merged: by expert and side, files of towers that have taken up its adapters.
    """

    folder: Path
    experts: ExpertSet
    parts: tuple[ExpertSummary, ...]
    towers: Mapping[str, TowerSummary]
    trained: Mapping[str, int]
    frozen: Mapping[str, int]
    statistics: int
    bytes: int
    merged: Mapping[str, Path] = field(default_factory=dict)

    @property
    def trainable_share(self) -> float:
        """Trained parameters as a fraction of all, 0 to 1."""
        trained = sum(self.trained.values())
        return trained / (trained + sum(self.frozen.values()))

    @property
    def trainable_shares(self) -> dict[str, float]:
        """The same of each part; they add up to ``trainable_share``."""
        everything = sum(self.trained.values()) + sum(self.frozen.values())
        return {name: count / everything for name, count in self.trained.items()}

    @property
    def portable(self) -> bool:
        """Whether the folder needs nothing from the cache."""
        return all(tower.in_folder for tower in self.towers.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        fusion = self.experts.config.fusion
        return {
            "folder": str(self.folder),
            "format": FORMAT,
            "hash": self.experts.hash,
            "whole": True,  # else there is no summary
            "portable": self.portable,
            "bytes": self.bytes,
            "experts": [asdict(part) for part in self.parts],
            "parameters": {
                "trained": {"total": sum(self.trained.values()), **self.trained},
                "frozen": {"total": sum(self.frozen.values()), **self.frozen},
                "statistics": self.statistics,
            },
            "trainable_share": self.trainable_share,
            "trainable_shares": self.trainable_shares,
            "towers": {side: asdict(tower) for side, tower in self.towers.items()},
            "merged": {name: path.name for name, path in self.merged.items()},
            "fusion": {
                "mode": fusion.mode,
                "prior": fusion.prior,
                "calibrations": {m: asdict(c) for m, c in self.experts.calibrations.items()},
                "sharpness": {m: asdict(s) for m, s in self.experts.sharpness.items()},
            },
            "provenance": dict(self.experts.provenance),
        }

    def to_text(self) -> str:
        """The same for people, a line each."""
        where = "whole" if self.portable else "whole, with towers from the cache"
        lines = [
            f"{self.folder}: {where}, every hash checked",
            f"hash       {self.experts.hash[:16]}, {self.bytes / 1e6:.1f} MB on disk",
        ]
        for part in self.parts:
            lines.append(
                f"expert     {part.name}: {part.members} member{'s'[: part.members != 1]}, "
                f"{part.dimension} numbers an image, {part.parameters:,} parameters"
            )
        lines += self._parameter_lines()
        lines += [
            f"{f'{side} tower':10} {tower.name} ({tower.fingerprint[:12]}), "
            f"{tower.bytes / 1e6:.1f} MB{'' if tower.in_folder else ', in the cache'}"
            for side, tower in self.towers.items()
        ]
        if self.merged:
            size = sum(path.stat().st_size for path in self.merged.values())
            lines.append(f"merged     {', '.join(self.merged)}: {size / 1e6:.1f} MB of towers")
        return "\n".join([*lines, *self._fusion_lines(), *self._origin_lines()])

    def _parameter_lines(self) -> list[str]:
        trained, frozen = sum(self.trained.values()), sum(self.frozen.values())

        shares = self.trainable_shares
        details = (
            f"{name.replace('_', ' ')} {count:,} ({100 * shares[name]:.1f} %)"
            for name, count in self.trained.items()
        )
        towers = (f"{name.replace('_', ' ')} {n:,}" for name, n in self.frozen.items())
        return [
            f"trained    {trained:,} parameters ({100 * self.trainable_share:.1f} % of all): "
            + ", ".join(details),
            f"frozen     {frozen:,} parameters: {', '.join(towers)}",
        ]

    def _fusion_lines(self) -> list[str]:
        fusion = self.experts.config.fusion
        lines = [f"fusion     {fusion.mode}, prior {fusion.prior}"]
        for mode, fitted in self.experts.calibrations.items():
            scale, offset = (
                " ".join(f"{value:.3g}" for value in values)
                for values in (fitted.scale, fitted.offset)
            )
            lines.append(
                f"  {mode:8} scale {scale}; offset {offset}; prior weight {fitted.prior_weight:.3g}"
            )
        sharpness = self.experts.sharpness.get(fusion.mode)
        if sharpness is None:
            return [*lines, "match      no probabilities were fitted"]
        lines.append(
            f"match      temperature {sharpness.temperature:.3g}, stray share "
            f"{sharpness.stray:.2g}, log-likelihood of none {sharpness.none_offset or 0.0:.3g}"
        )
        return lines

    def _origin_lines(self) -> list[str]:
        """Provenance is whatever the trainer wrote: nothing in it is taken for granted."""
        made = self.experts.provenance
        data = made.get("data")
        lines = []
        if isinstance(data, Mapping):
            lines.append(
                f"data       {data.get('source')} ({str(data.get('hash'))[:12]}), "
                f"{data.get('images')} images, {data.get('captions')} captions"
            )
        commit = str(made.get("git_commit") or "none")[:12]
        lines.append(
            f"made       {made.get('created')}, seed {made.get('seed')}, "
            f"{made.get('seconds')} s, saywhere {made.get('saywhere')}, commit {commit}"
        )
        versions = made.get("versions")
        if isinstance(versions, Mapping):
            with_versions = {"python": made.get("python"), **versions}
            lines.append("versions   " + ", ".join(f"{k} {v}" for k, v in with_versions.items()))
        return lines


def summarise(folder: Path) -> Summary:
    """Check every byte of the experts in ``folder`` and count what they hold.

    Raises:
        ExpertError, TowerError: as ``portable.check_whole``.
    """
    experts, towers = check_whole(folder)
    parts = tuple(summarise_expert(expert) for expert in experts.experts)
    found = {
        side: TowerSummary(
            name=str(content.metadata.get("name")),
            file=path.name,
            fingerprint=experts.towers[side],
            bytes=path.stat().st_size,
            parameters=content.parameters - _placeholders(content.metadata),
            in_folder=path.parent == folder / TOWERS_FOLDER,
        )
        for side, (path, content) in towers.items()
    }
    return Summary(
        folder=folder,
        experts=experts,
        parts=parts,
        towers=found,
        trained=_trained(experts, parts),
        frozen={f"{side}_tower": tower.parameters for side, tower in found.items()},
        statistics=sum(_statistics(array_set) for array_set in _array_sets(experts)),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        merged={f"{name} {side}": path for (name, side), path in merged_files(experts).items()},
    )


def summarise_expert(expert: Expert) -> ExpertSummary:
    """Count what one expert holds."""
    return ExpertSummary(
        name=expert.name,
        members=len(expert.members),
        dimension=expert.dimension,
        image_heads=sum(_parameters(member.image) for member in expert.members),
        text_heads=sum(_parameters(member.text) for member in expert.members),
        logit_scales=len(expert.members),
        image_adapter=expert.adapter_parameters.get("image", 0),
        text_adapter=expert.adapter_parameters.get("text", 0),
    )


def _placeholders(metadata: Mapping[str, Any]) -> int:
    """Zeros of rank 1 in a tower that takes adapters, where there is none."""
    shapes = metadata.get("sites", {}).values()
    return sum(math.prod(length or 1 for length in shape) for shape in shapes)


def _parameters(head: Head) -> int:
    return head.weight1.size + head.bias1.size + head.weight2.size + head.bias2.size


def _trained(experts: ExpertSet, parts: tuple[ExpertSummary, ...]) -> dict[str, int]:
    classifiers = (experts.image_classifier, experts.word_classifier)
    adapters = {
        "image_adapters": sum(part.image_adapter for part in parts),
        "text_adapters": sum(part.text_adapter for part in parts),
    }
    return {
        "image_heads": sum(part.image_heads for part in parts),
        "text_heads": sum(part.text_heads for part in parts),
        "logit_scales": sum(part.logit_scales for part in parts),
        **{name: count for name, count in adapters.items() if count},
        "platform_classifiers": sum(c.weight.size + c.bias.size for c in classifiers if c),
        "fusion": sum(len(c.scale) + len(c.offset) + 1 for c in experts.calibrations.values()),
    }


def _array_sets(experts: ExpertSet) -> list[dict[str, FloatArray]]:
    classifiers = (experts.image_classifier, experts.word_classifier)
    heads = [expert.arrays() for expert in experts.experts]
    return [*heads, *(classifier.arrays() for classifier in classifiers if classifier)]


def _statistics(arrays: Mapping[str, FloatArray]) -> int:
    names = ("mean", "std")
    return sum(array.size for name, array in arrays.items() if name.rsplit(".", 1)[-1] in names)
