"""Which of several training processes this is, as ``torchrun`` and ``accelerate launch`` say it."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process; 0 is the one that writes, and the only one without a launcher."""
    return int(os.environ.get("RANK", "0"))


def meet() -> None:
    """Wait until every process is here; needs accelerate where there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
