"""Packages against the bounds that this version of saywhere was tested with, and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from saywhere.doctor.check import Check, Status, failed
from saywhere.errors import TowerError
from saywhere.hardware import Runtime

_EXTRA = "train"
# Other distributions of the same module.
_ALSO = {"onnxruntime": ("onnxruntime-gpu",)}
_GPU = Path("/proc/driver/nvidia/version")


def package_checks() -> list[Check]:
    """Every package of the base install, then of the extra that trains."""
    try:
        wanted = [Requirement(text) for text in requires("saywhere") or ()]
    except PackageNotFoundError:
        return [
            Check(
                "packages",
                "saywhere",
                "note",
                "runs from its source, not installed",
                "pip install --editable . tells which packages it needs",
            )
        ]
    base = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    extra = [
        r for r in wanted if r not in base and r.marker and r.marker.evaluate({"extra": _EXTRA})
    ]
    found = [check_package(requirement, needed=True) for requirement in base]
    return [*found, *(check_package(requirement, needed=False) for requirement in extra)]


def check_package(requirement: Requirement, *, needed: bool) -> Check:
    """One package.

    Args:
        needed: by the base install; else by the extra that trains, which may be left out.
    """
    name, section = requirement.name, "packages" if needed else "packages for training"
    bound = f"{requirement.specifier}"
    installed = _version(name)
    if installed is None:
        what = f"'{name}{bound}'" if needed else f"'saywhere[{_EXTRA}]'"
        status: Status = "problem" if needed else "note"
        return Check(section, name, status, "not installed", f"pip install {what}")
    if not requirement.specifier.contains(installed, prereleases=True):
        return Check(
            section,
            name,
            "problem",
            f"{installed}, needs {bound}",
            f"pip install --upgrade '{name}{bound}'",
        )
    return Check(section, name, "ok", f"{installed} ({bound})")


def provider_checks(runtime: Runtime) -> list[Check]:
    """What ONNX Runtime can run towers on, and what it will."""
    import onnxruntime

    return [_providers(runtime, onnxruntime.get_available_providers(), _GPU.exists())]


def _providers(runtime: Runtime, available: Sequence[str], has_gpu: bool) -> Check:
    from saywhere.towers.runtime import choose_providers

    short = [name.removesuffix("ExecutionProvider") for name in available]
    try:
        chosen = choose_providers(runtime.device, available)[0].removesuffix("ExecutionProvider")
    except TowerError as error:
        return failed("runtime", "providers", error)
    found = f"{chosen} used, of {', '.join(short)}"
    if has_gpu and "CUDA" not in short:
        return Check(
            "runtime",
            "providers",
            "note",
            found,
            "a GPU is there but this ONNX Runtime cannot use it; run: pip install onnxruntime-gpu",
            slow=True,
        )
    if chosen == "CPU" and "CUDA" in short:
        return Check(
            "runtime",
            "providers",
            "note",
            found,
            "the GPU is left alone; choose --device auto or unset SAYWHERE_DEVICE",
            slow=True,
        )
    return Check("runtime", "providers", "ok", found)


def _version(name: str) -> str | None:
    for candidate in (name, *_ALSO.get(name, ())):
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return None
