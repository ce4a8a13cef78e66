"""Progress in a log: an estimate early, then a line now and then; a bar on a terminal."""

from __future__ import annotations

import sys

import pytest

from saywhere.commands import console


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "time", made)
    return made


def run(clock: Clock, total: int, seconds: float, *, batch: int, threads: int | None = 2) -> None:
    """A job whose first batch takes 20 s longer than the others: a cold start."""
    with console.progress_bar("views", threads) as progress:
        clock.now += 20
        for done in range(batch, total + 1, batch):
            clock.now += seconds
            progress(done, total)


def test_a_log_gets_one_estimate_after_the_first_batches(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, 12_480, 1.0, batch=52)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "views: 52 of 12,480"  # the cold start alone took more than 15 s
    assert lines[1] == "views: 12,272 to go, about 4 min at 52/s on 2 threads"
    assert lines[2] == "views: 988 of 12,480"
    assert sum("about" in line for line in lines) == 1
    assert len(lines) == 2 + 236 // 15


@pytest.mark.parametrize(
    ("total", "seconds", "threads", "expected"),
    [
        (200, 1.0, 1, "196 to go, about 3 min at 1.0/s on 1 thread"),
        (40, 1.0, 2, "36 to go, about 36 s at 1.0/s on 2 threads"),
        (90_000, 0.5, 4, "89,993 to go, about 12.5 h at 2.0/s on 4 threads"),
        (50, 1.0, None, "46 to go, about 46 s at 1.0/s"),
    ],
)
def test_an_estimate_reads_like_speech(
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
    total: int,
    seconds: float,
    threads: int | None,
    expected: str,
) -> None:
    run(clock, total, seconds, batch=1, threads=threads)
    found = [line for line in capsys.readouterr().err.splitlines() if "about" in line]
    assert found == [f"views: {expected}"]


def test_a_short_job_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bar("views", 2) as progress:
        for done in range(1, 13):
            clock.now += 1
            progress(done, 12)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress_bar("views", 2) as progress:
        for done in range(10, 60, 10):
            progress(done, 100)
    shown = capsys.readouterr().err
    assert "views" in shown
    assert "50/100" in shown
    assert "0:00:0" in shown or "-:--:--" in shown
