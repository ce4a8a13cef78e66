"""Python, CPU, memory, disk: what the machine offers and what holds it back."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from saywhere.doctor.check import Check
from saywhere.hardware import (
    MOST_THREADS,
    Runtime,
    cpu_flags,
    filesystem_type,
    memory_bytes,
    usable_cores,
)
from saywhere.towers.cache import cache_folder

_GB = 1e9
_LITTLE_MEMORY = 2 * _GB  # training the small preset takes 1.3 GB
_LITTLE_DISK = 2 * _GB
_NO_DISK = 0.2 * _GB  # an exported tower does not fit
_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "gpfs", "beegfs", "afs", "fuse.sshfs")
# Settings that slow BLAS down for a whole process, unseen.
_BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def machine_checks(runtime: Runtime, environment: Mapping[str, str] = os.environ) -> list[Check]:
    """The machine, and the share of it that ``runtime`` uses."""
    return [
        Check("machine", "Python", "ok", f"{platform.python_version()} in {sys.prefix}"),
        Check("machine", "system", "ok", platform.platform()),
        _threads(runtime),
        _instructions(platform.machine(), cpu_flags()),
        _memory(*memory_bytes()),
        *_blas(environment),
    ]


def disk_checks() -> list[Check]:
    """The disk that holds the caches."""
    folder = cache_folder()
    # mkdir makes what is missing; what is there must let it.
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [
            Check(
                "machine",
                "cache folder",
                "problem",
                f"{folder} cannot be written to",
                "set SAYWHERE_CACHE to a folder that can be",
            )
        ]
    return [_space(folder, shutil.disk_usage(there).free), _speed(folder, filesystem_type(there))]


def _threads(runtime: Runtime) -> Check:
    cores, usable = os.cpu_count() or 1, usable_cores()
    found = f"{runtime.threads} used, {usable} of {cores} cores usable"
    if runtime.threads < min(usable, MOST_THREADS):
        remedy = "towers and training use part of the machine; raise --threads or SAYWHERE_THREADS"
    elif runtime.threads > usable:
        remedy = "more threads than cores wait for each other; lower --threads or SAYWHERE_THREADS"
    else:
        return Check("machine", "threads", "ok", found)
    return Check("machine", "threads", "note", found, remedy, slow=True)


def _instructions(architecture: str, flags: frozenset[str]) -> Check:
    if architecture not in ("x86_64", "AMD64"):
        return Check("machine", "instructions", "ok", architecture)
    if not flags:
        return Check("machine", "instructions", "ok", f"{architecture}, not told which")
    if "avx2" not in flags:
        return Check(
            "machine",
            "instructions",
            "note",
            f"{architecture} without AVX2",
            "towers run several times slower than on a CPU made since 2013; in a virtual "
            "machine pass the host's CPU through",
            slow=True,
        )
    wide = "AVX2 and AVX-512" if "avx512f" in flags else "AVX2, no AVX-512"
    return Check("machine", "instructions", "ok", f"{architecture}, {wide}")


def _memory(total: int, available: int) -> Check:
    if not total:
        return Check("machine", "memory", "ok", "not told how much")
    found = f"{available / _GB:.1f} of {total / _GB:.1f} GB available"
    if available < _LITTLE_MEMORY:
        return Check(
            "machine",
            "memory",
            "note",
            found,
            "the machine may swap or stop the program; close others",
            slow=True,
        )
    return Check("machine", "memory", "ok", found)


def _blas(environment: Mapping[str, str]) -> list[Check]:
    found = []
    for name in _BLAS:
        value = environment.get(name)
        if value is None:
            continue
        effect = "kernels of another CPU" if name.endswith("CORETYPE") else "that many threads"
        found.append(
            Check(
                "machine",
                name,
                "note",
                value,
                f"matrix products use {effect}; unset it unless it is meant",
                slow=True,
            )
        )
    return found


def _space(folder: Path, free: int) -> Check:
    found = f"{folder}, {free / _GB:.1f} GB free"
    remedy = "saywhere cache clear, or set SAYWHERE_CACHE to a larger disk"
    if free < _NO_DISK:
        return Check("machine", "cache folder", "problem", found, remedy)
    if free < _LITTLE_DISK:
        return Check("machine", "cache folder", "note", found, remedy)
    return Check("machine", "cache folder", "ok", found)


def _speed(folder: Path, kind: str) -> Check:
    if kind.startswith(_NETWORK):
        return Check(
            "machine",
            "cache disk",
            "note",
            f"{folder} is on a network ({kind})",
            "each batch waits for the network, and locks may fail; set SAYWHERE_CACHE to a "
            "local disk",
            slow=True,
        )
    return Check("machine", "cache disk", "ok", kind or "not told which")
