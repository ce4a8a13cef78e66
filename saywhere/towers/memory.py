"""Whether a tower fits into memory, from its parameter count, before it is built."""

from __future__ import annotations

from pathlib import Path

from saywhere.errors import TowerError

_BYTES = 4  # towers are loaded as float32
# Peak over the weights' own size, from the measured ones of docs/paper.md: the module and the state
# dict it is filled from; for an export also the traced graph, its bytes, and ONNX Runtime's copies.
LOADING = 2.0
EXPORTING = 5.0
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(name: str, side: str, parameters: int, factor: float) -> None:
    """Refuse a tower that cannot fit.

    Args:
        side: image or text.
        parameters: of the model.
        factor: peak memory over the size of the float32 weights.

    Raises:
        TowerError: needs more than is available.
    """
    needed = parameters * _BYTES * factor
    free = available_memory()
    if free is not None and needed > free:
        raise TowerError(
            f"{side} tower {name!r}: its {parameters / 1e6:.0f} million parameters take about "
            f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available; close other "
            f"programs, choose a smaller towers.{side}.name, or export it on a larger machine "
            "(saywhere towers export --out FOLDER) and copy the file"
        )


def available_memory() -> int | None:
    """Bytes this process may still take, of the system or of its container; None: unknown."""
    try:
        import psutil
    except ImportError:
        return None
    free = int(psutil.virtual_memory().available)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is None or used is None:
        return free
    return min(free, max(0, limit - used + _reclaimable()))


def _reclaimable() -> int:
    """Bytes of file cache the container would give up: they count as used, but are free."""
    try:
        lines = (_CGROUP / "memory.stat").read_text("ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):
        return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # no control group, or "max"
        return None
