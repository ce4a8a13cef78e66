"""A real language model, small and on loopback, from the endpoint to the guards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_llm
from fake_endpoint import order

from saywhere.refine.endpoint import Access
from saywhere.refine.lines import open_lines, read_lines
from saywhere.refine.run import refine
from saywhere.text.guards import Verdict, check

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small_endpoint() -> Iterator[str]:
    """The base URL of a server that ends with the module."""
    if reason := small_llm.missing():
        pytest.skip(f"small language model missing: {reason}")
    script = Path(small_llm.__file__)
    command = [sys.executable, str(script), "--threads", "1", "--slots", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), f"no URL: {url!r}"
        try:
            yield url
        finally:
            server.terminate()
            assert server.wait(20) == 0


def test_a_real_model_refines_four_captions(small_endpoint: str, tmp_path: Path) -> None:
    wanted = order(4, temperature=0.0)
    access = Access(small_endpoint, timeout=50, attempts=1)
    for name in ("first", "again"):
        with open_lines(tmp_path / name) as file:
            session = refine(wanted, file, access, concurrency=1)
        assert session.calls == 4
        assert session.tokens_in > 4 * 100
        assert session.tokens_out > 4 * 5
        if name == "first":
            first = read_lines(tmp_path / name)
    assert [line.text for line in read_lines(tmp_path / "again")] == [line.text for line in first]
    assert not {line.verdict for line in first} & {Verdict.UNANSWERED, Verdict.UNPARSABLE}
    for line, job in zip(first, wanted.jobs, strict=True):
        accepted = line.verdict is Verdict.ACCEPTED
        assert accepted == (check(line.text, job.source, "operator") is Verdict.ACCEPTED and
                            line.origin.startswith("fake@"))  # fmt: skip
        assert line.text == job.rule or accepted
        assert line.refused or accepted
