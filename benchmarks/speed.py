"""How fast saywhere is, against what it is made of: one command, one table.

    python benchmarks/speed.py [DATA] [--only embed,search,mine,start,memory] [--out runs/speed]

Every row compares two things measured side by side in this run, round by round, so that a busy
machine slows both. DATA names a folder with geotext-mini/ and rsicd/ (default ../shared/data);
without it rendered images are embedded. Writes ``speed.md`` and ``speed.json``; the JSON keeps
every single measurement. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

PARTS = ("embed", "search", "mine", "start", "memory")
PACKAGES = ("numpy", "onnxruntime", "lancedb", "pillow")


def main() -> None:
    """Measure, tabulate."""
    options = _options()
    _set_threads(options.threads)  # before anything imports NumPy
    from parts.common import Setting, say, table

    from saywhere.files import write_text

    lines = []
    seconds = {}
    for name in options.only:
        say(f"== {name}")
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="saywhere-speed-") as scratch:
            setting = Setting(options.data, Path(scratch), options.threads, options.toy)
            lines += import_module(f"parts.{name}").run(setting)
        seconds[name] = round(time.perf_counter() - started, 1)
    text = table(lines) + "\n" + _machine(options.threads, seconds) + "\n"
    write_text(options.out / "speed.md", text)
    raw = {"rows": [line.to_dict() for line in lines], "seconds": seconds, **_versions()}
    write_text(options.out / "speed.json", json.dumps(raw, indent=2) + "\n")
    print(text, end="")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    parser.add_argument("--only", type=_parts, default=PARTS, metavar="PART,…")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="sizes that only show that it runs")
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{unknown.pop()!r} is none of {', '.join(PARTS)}")
    return names


def _set_threads(count: int) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"


def _versions() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
    }


def _machine(threads: int, seconds: dict[str, float]) -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in _cpu_info() if line.startswith("model name")),
        platform.machine(),
    )
    load = os.getloadavg()[1] if hasattr(os, "getloadavg") else 0.0
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    minutes = sum(seconds.values()) / 60
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} threads; load {load:.1f} over five minutes; "
        f"Python {platform.python_version()}, {packages}; {minutes:.1f} minutes."
    )


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    sys.exit(main())
