"""The model card of pushed experts: what they are, from what data, under which terms, how good."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhere.config import dump_config
from saywhere.errors import InputError
from saywhere.expert_set import ExpertSet
from saywhere.manifest import Manifest

# Of the towers' published weights, as their publishers state them.
_TOWER_LICENCES = {
    "tf_efficientnet_lite0": "Apache-2.0",
    "tf_efficientnet_lite2": "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "eva02_large_patch14_clip_336.merged2b": "MIT",
    "eva02_base_patch16_clip_224.merged2b": "MIT",
    "BAAI/bge-m3": "MIT",
}
_WORDS_LICENCE = "MIT; made from Llama 2's embeddings, so its community licence may apply, too"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the experts themselves do not know.

    Attributes:
        licence: of the trained heads, an SPDX name in lower case.
        data_terms: name and terms of the training data, in the pusher's words.
        reports: JSON reports of ``saywhere evaluate --out``.
    """

    licence: str
    data_terms: str
    reports: tuple[Path, ...] = ()


def make_card(experts: ExpertSet, manifest: Manifest, facts: CardFacts, repo: str) -> str:
    """The card as Markdown with the hub's YAML header.

    Raises:
        InputError: a licence that is no identifier, empty terms, or a report that cannot be read.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", facts.licence):
        raise InputError(
            f"licence {facts.licence!r}: is no licence identifier; write it as apache-2.0, mit, …"
        )
    if not facts.data_terms.strip():
        raise InputError("data terms: nothing is said; name the training data and its terms")
    parts = [
        f"---\nlicense: {facts.licence}\nlibrary_name: saywhere\ntags:\n- text-to-image-retrieval\n"
        "- geo-localization\n---",
        f"# {repo}\n\nText to geo-referenced images: {len(experts.experts)} experts "
        f"({', '.join(expert.name for expert in experts.experts)}) over two frozen towers.",
        f"```\nsaywhere hub pull {repo} experts\nsaywhere index PHOTOS --experts experts\n"
        'saywhere search "red brick church by a pond"\n```',
        _data(experts, facts),
        _numbers(facts.reports),
        f"## Licence\n\nTrained heads: {facts.licence}. Frozen towers, not ours:\n\n"
        + _towers(experts),
        f"## Configuration\n\n```toml\n{dump_config(experts.config).strip()}\n```",
        _hashes(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _data(experts: ExpertSet, facts: CardFacts) -> str:
    data: dict[str, Any] = dict(experts.provenance.get("data") or {})
    known = [f"{key} {data[key]}" for key in ("source", "images", "captions", "places", "hash")
             if key in data]  # fmt: skip
    seed = f"seed {experts.provenance.get('seed', experts.config.seed)}"
    return f"## Data\n\n{facts.data_terms.strip()}\n\nRecorded: {', '.join([*known, seed])}."


def _numbers(reports: Sequence[Path]) -> str:
    lines = ["## Numbers", ""]
    if not reports:
        return "\n".join([*lines, "None were given."])
    for path in reports:
        try:
            table = path.with_suffix(".md").read_text("utf-8").strip()
            json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: is no report with its Markdown beside it ({type(error).__name__}); "
                f"make it: saywhere evaluate DATA --out {path}"
            ) from None
        lines += [f"`{path.name}`:", "", table, ""]
    return "\n".join(lines).strip()


def _towers(experts: ExpertSet) -> str:
    towers = experts.config.towers
    rows = ["| tower | licence | fingerprint |", "|---|---|---|"]
    for side, name in (("image", towers.image.name), ("text", towers.text.name)):
        licence = _TOWER_LICENCES.get(name, "as its publisher states")
        rows.append(f"| {name} | {licence} | `{experts.towers[side]}` |")
    if towers.image.tuned:
        tuned = Path(towers.image.tuned).name
        rows.append(f"| {tuned} (last blocks of the image tower, tuned) | as the tower's | |")
    if towers.text.words:
        rows.append(f"| {towers.text.words} (in the text tower) | {_WORDS_LICENCE} | |")
    return "\n".join(rows)


def _hashes(manifest: Manifest) -> str:
    rows = ["## Files", "", f"Experts `{manifest.hash}`.", "", "| file | SHA-256 |", "|---|---|"]
    rows += [f"| {name} | `{digest}` |" for name, digest in sorted(manifest.files.items())]
    towers = sorted(manifest.tower_files.items())
    rows += [f"| towers/{name} | `{file.sha256}` |" for name, file in towers]
    return "\n".join(rows)
