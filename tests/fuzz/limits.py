"""What no malformed input may cost: a hang, memory without end, a word on stderr, a traceback."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from unittest.mock import patch

SEED = int(os.environ.get("SAYWHERE_FUZZ_SEED", "0"))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails a block that computes for longer, or waits for twelve times as long.

    Time of the processor, so that a busy machine fails nothing; the wait is interrupted as soon as
    Python code runs again.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {12 * seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 12 * seconds)
    started = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - started < seconds


def assert_clear(message: str, *names: str) -> None:
    """A message as users get it: what it is about, a cause and a remedy, a line a problem."""
    assert any(name in message for name in names), message
    assert " at 0x" not in message
    head, *lines = message.rstrip("\n").split("\n")
    for line in lines or [head]:
        assert "; " in line or line.startswith("  … and "), message
        assert all(c.isprintable() for c in line), message
        assert len(line) < 700, message


@dataclass
class Tally:
    """How often each family was accepted or refused; printed by ``pytest -s``."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, family: str, outcome: str) -> None:
        self.counts[family, outcome] += 1

    def total(self, outcome: str) -> int:
        return sum(count for (_, found), count in self.counts.items() if found == outcome)

    def table(self) -> str:
        """Markdown: a row a family, a column an outcome, and their sums."""
        families = sorted({family for family, _ in self.counts})
        outcomes = sorted({outcome for _, outcome in self.counts})
        lines = [["family", *outcomes], ["---", *["--:"] * len(outcomes)]]
        for name in families:
            lines.append([name, *(str(self.counts[name, outcome]) for outcome in outcomes)])
        lines.append(["all", *(str(self.total(outcome)) for outcome in outcomes)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*arguments: str, environ: Mapping[str, str] | None = None) -> Done:
    """Run ``saywhere`` in this process, on streams as strict as a terminal's and a pipe's.

    Anything but our own errors comes out of here as it would out of the interpreter.
    """
    from saywhere.cli import main

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    code = _exit_code(main, out, err, ["saywhere", *arguments], environ or {})
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Done(code, *texts)


def _exit_code(
    main: Callable[[], object],
    out: io.TextIOWrapper,
    err: io.TextIOWrapper,
    arguments: list[str],
    environ: Mapping[str, str],
) -> int:
    with (
        patch.object(sys, "argv", arguments),
        patch.object(sys, "stdout", out),
        patch.object(sys, "stderr", err),
        patch.dict(os.environ, environ),
    ):
        try:
            main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
    return -1
