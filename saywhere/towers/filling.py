"""Filling a module with a state dict, strictly: every key accounted for, or an error naming it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.errors import TowerError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

_OPENCLIP = "visual.trunk."  # OpenCLIP's name for a timm image tower; its text tower lies beside it
# Read by nothing here: features are pooled from the last hidden states.
_UNUSED_TEXT = ("pooler.",)


def fill_timm(module: nn.Module, state: dict[str, Tensor], path: Path) -> tuple[str, ...]:
    """Fill a timm model strictly; keys of an OpenCLIP text tower are left and returned.

    Published names are timm's own, OpenCLIP's ("visual.trunk."), or older ones that timm's filter
    of that architecture knows. The filter would also stretch weights of another size: shapes are
    compared before it sees them.
    """
    own = module.state_dict()
    unused: tuple[str, ...] = ()
    if any(key.startswith(_OPENCLIP) for key in state):
        unused = tuple(key for key in state if not key.startswith(_OPENCLIP))
        state = {
            key.removeprefix(_OPENCLIP): tensor
            for key, tensor in state.items()
            if key.startswith(_OPENCLIP)
        }
    if own.keys() != state.keys() and not _wrong_shapes(own, state):
        renamed = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        if renamed is not None:
            state = renamed(state, module)
    _check_fit(own, state, path)
    module.load_state_dict(state)
    return unused


def fill_transformers(
    kind: type[PreTrainedModel], settings: PretrainedConfig, state: dict[str, Tensor], path: Path
) -> tuple[nn.Module, tuple[str, ...]]:
    """A filled Hugging Face model; heads of a larger model and the pooler may come or miss."""
    import torch

    prefix = f"{kind.base_model_prefix}."
    wrapped = kind.base_model_prefix and any(key.startswith(prefix) for key in state)
    heads = tuple(key for key in state if not key.startswith(prefix)) if wrapped else ()
    kept = {key: tensor for key, tensor in state.items() if key not in heads}
    with _silent_transformers():
        loaded: Any = kind.from_pretrained(
            None,
            config=settings,
            state_dict=kept,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # reported instead of raised; refused below
            output_loading_info=True,
        )
    module, found = loaded
    missing = [key for key in found["missing_keys"] if not key.startswith(_UNUSED_TEXT)]
    spare = [key.removeprefix(prefix) for key in found["unexpected_keys"]]
    unexpected = [key for key in spare if not key.startswith(_UNUSED_TEXT)]
    wrong = [f"{key} {list(one)} for {list(other)}" for key, one, other in found["mismatched_keys"]]
    _refuse_misfit(path, "text", sorted(missing), sorted(unexpected), sorted(wrong))
    return module.eval().float(), (*heads, *(key for key in spare if key not in unexpected))


def fill_in_order(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Load a state dict of the same architecture under other names, entry by entry in order."""
    own = module.state_dict()
    if len(own) != len(state) or any(
        a.shape != b.shape for a, b in zip(own.values(), state.values(), strict=True)
    ):
        raise TowerError(
            f"the packaged weights do not fit {name!r}; reinstall the package that carries them"
        )
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))


def fill_part(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Replace those tensors of ``module`` that ``state`` has; each must be one of the module's."""
    own = module.state_dict()
    unexpected = sorted(state.keys() - own.keys())
    _refuse_misfit(path, "image", [], unexpected, _wrong_shapes(own, state))
    module.load_state_dict(dict(state), strict=False)


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    _refuse_misfit(path, "image", missing, unexpected, _wrong_shapes(own, state))


def _wrong_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return sorted(
        f"{key} {list(state[key].shape)} for {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    )


def _refuse_misfit(
    path: Path, side: str, missing: list[str], unexpected: list[str], wrong: list[str]
) -> None:
    """One line that names the keys, at most five of a kind."""
    parts = []
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", wrong)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            parts.append(f"{label}: {', '.join(keys[:5])}{more}")
    if parts:
        raise TowerError(
            f"{path}: does not fit the {side} tower ({'; '.join(parts)}); "
            f"check towers.{side}.name, or fetch the weights of that model"
        )


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keep transformers' progress bar and load report off stderr: what they say, we refuse."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
