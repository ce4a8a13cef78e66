"""Refined captions into training: in the place of a caption, or as further positives of its image.

The texts keep their original and their origin (``rule``, or model and prompt hash), which the
experts' provenance counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from saywhere.errors import InputError
from saywhere.refine.lines import RefinedLine, read_lines
from saywhere.types import Caption, Dataset


def add_refined(dataset: Dataset, path: Path, way: Literal["replace", "add"]) -> Dataset:
    """A dataset with the refined captions of a file.

    Args:
        way: ``replace`` a caption by its refined texts, or ``add`` them behind it. Captions
            without a line, as after an interrupted run, stay as they are.

    Raises:
        InputError: the file cannot be read, or none of its lines is about these captions.
    """
    return with_lines(dataset, read_lines(path), way, str(path))


def with_lines(
    dataset: Dataset, lines: Sequence[RefinedLine], way: Literal["replace", "add"], name: str
) -> Dataset:
    """As ``add_refined``, of lines at hand; ``name`` is what errors call them."""
    by_caption: dict[tuple[str, str], list[RefinedLine]] = {}
    for line in lines:
        by_caption.setdefault((line.image_id, line.original), []).append(line)
    captions: list[Caption] = []
    matched = 0
    for caption in dataset.captions:
        found = by_caption.get((caption.image_id, caption.original), [])
        matched += bool(found)
        if way == "add" or not found:
            captions.append(caption)
        captions += [
            Caption(caption.image_id, line.text, caption.original, line.origin) for line in found
        ]
    if not matched:
        raise InputError(
            f"{name}: none of its {len(lines)} lines is about a caption of {dataset.source}; "
            "refine this dataset, or name its file"
        )
    return replace(dataset, captions=tuple(captions))
