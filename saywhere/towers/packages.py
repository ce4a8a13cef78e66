"""Weight files that come inside PyPI packages, found without importing these."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from saywhere.errors import MissingExtraError, TowerError


def package_folder(package: str) -> Path:
    """Where an installed package lies.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError("exporting a tower", "train", package)
    return Path(spec.origin).parent


def package_file(package: str, folder: str, pattern: str) -> Path:
    """The one file of that pattern in a folder of the package.

    Raises:
        TowerError: none or several.
        MissingExtraError: the package is not installed.
    """
    files = sorted((package_folder(package) / folder).glob(pattern))
    if len(files) != 1:
        raise TowerError(f"package {package}: holds no weight file {pattern}; reinstall it")
    return files[0]
