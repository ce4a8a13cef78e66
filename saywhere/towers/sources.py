"""Where a tower's weight files are: a file, a folder, or a hub repository. Nothing is parsed here.

The hub is asked through huggingface_hub, which keeps its own cache and honours ``HF_ENDPOINT``,
``HF_HUB_OFFLINE`` and ``HF_TOKEN``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from saywhere.errors import MissingExtraError, TowerError
from saywhere.towers.checkpoint import PICKLE_SUFFIXES, convert_hint

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
# In the order they are looked for: timm and transformers, their shards, OpenCLIP.
_NAMES = ("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors")
TIMM_FILES = ("config.json", "model.safetensors")  # of timm's own repositories
IMAGE_FILES = ("config.json", *_NAMES)
TEXT_FILES = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "sentencepiece.bpe.model",
    "vocab*",
    "merges.txt",
)
# Repositories that publish a pickle and no safetensors, and the files it takes to use them.
_PICKLED = {
    "BAAI/bge-m3": (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "sentencepiece.bpe.model",
        "pytorch_model.bin",
    )
}


def weight_files(place: str, patterns: Sequence[str]) -> tuple[Path, ...]:
    """The safetensors files at ``place``: a file, a folder, or a hub repository as owner/name.

    Args:
        patterns: what is fetched from a hub repository.

    Raises:
        TowerError: nothing there, or a pickle only.
    """
    path = Path(place)
    if path.is_file():
        return (path,)
    if path.is_dir():
        return files_in(path)
    if path.suffix in _WEIGHT_SUFFIXES or not _HUB_ID.fullmatch(place):
        raise TowerError(
            f"tower weights {place!r}: no such .safetensors file, folder or hub repository; "
            "use package, timm, transformers, random, a path, or owner/name"
        )
    return files_in(hub_folder(place, patterns), place)


def hub_folder(repo: str, patterns: Sequence[str]) -> Path:
    """The cached files of a hub repository, fetched if they are not there and the hub is in reach.

    Raises:
        TowerError: not cached and not to be had; says the command that fetches them.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise MissingExtraError("fetching a tower", "train", "huggingface_hub") from None
    disable_progress_bars()  # only the command line speaks on stderr
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns)))
    except Exception as error:  # OSError, httpx and hub errors share no useful base
        cause = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise TowerError(
            f"{repo}: its files are not on disk and no network or hub gives them ({cause}); "
            f"{fetch_hint(repo, patterns)}"
        ) from None


def fetch_hint(repo: str, patterns: Sequence[str]) -> str:
    """The commands that fetch ``repo`` where there is a network."""
    if repo in _PICKLED:
        folder = repo.rsplit("/", 1)[-1]
        names = " ".join(_PICKLED[repo])
        return (
            f"fetch them: hf download {repo} {names} --local-dir {folder}; "
            f"{convert_hint(Path(folder) / 'pytorch_model.bin')}; "
            f"then set towers.text.name={folder}"
        )
    globs = any("*" in name for name in patterns)
    wanted = " ".join(f"--include '{name}'" if globs else name for name in patterns)
    return f"check the name, then fetch them: hf download {repo} {wanted}"


def files_in(folder: Path, repo: str | None = None) -> tuple[Path, ...]:
    """The safetensors files of a folder; ``repo`` is the hub repository it is a copy of, if any.

    Raises:
        TowerError: as ``weight_files``.
    """
    for name in _NAMES:
        path = folder / name
        if path.is_file():
            return _shards(path) if path.suffix == ".json" else (path,)
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise TowerError(
            f"{folder}: holds weights only as a pickle, which can run code when read; "
            f"{convert_hint(pickles[0])}"
        )
    if repo is not None:
        raise TowerError(
            f"{repo}: publishes no safetensors, or they are not on disk; "
            f"{fetch_hint(repo, TEXT_FILES)}"
        )
    raise TowerError(
        f"{folder}: holds no weights ({', '.join(_NAMES)}); "
        "put the .safetensors file there, or name it in towers.….weights"
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The files an index names; all of them beside it."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        good = all(isinstance(name, str) and Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names, good = [], False
    if not good or not names:
        raise TowerError(f"{index}: is no index of weight files; fetch it again")
    files = tuple(index.parent / name for name in names)
    if missing := [path for path in files if not path.is_file()]:
        raise TowerError(f"{missing[0]}: is missing, {index.name} names it; fetch it again")
    return files
