"""Which of several training processes this is, as ``torchrun`` and ``accelerate launch`` say it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def rank() -> int:
    """Number of this process; 0 is the one that writes, and the only one without a launcher."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def meet() -> None:
    """Wait until every process is here; needs accelerate where there are several."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does what is within; the others do it after, and find it done.

    Where the first one fails it ends, and its launcher ends those that wait.
    """
    if rank():
        meet()
    yield
    if not rank():
        meet()
