"""What made experts: versions, commit, command, seed."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import saywhere
from saywhere.config import Config
from saywhere.ranks import count

_PACKAGES = ("torch", "timm", "transformers", "numpy", "onnxruntime", "scikit-learn")


def origin(config: Config) -> dict[str, Any]:
    """Facts about this process, for the manifest of what it makes; nothing of the machine."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "saywhere": saywhere.__version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": config.seed,
        "processes": count(),
    }


def _version(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the source tree this runs from; None outside one."""
    here = Path(saywhere.__file__).parent
    try:
        found = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(here), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
