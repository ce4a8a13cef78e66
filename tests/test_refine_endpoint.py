"""Refinement against an endpoint that misbehaves in every way the fake knows."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import ANSWERS, FAULTS, MISBEHAVING, FakeEndpoint, dataset, order, serve

from saywhere.commands.asking import with_refinement
from saywhere.config import Config, QueryRefinementConfig, load_config
from saywhere.embed import clean_texts
from saywhere.errors import ConfigError, InputError, MissingExtraError
from saywhere.expert_set import ExpertSet
from saywhere.refine.cache import open_cache
from saywhere.refine.endpoint import Access, check_url, is_loopback
from saywhere.refine.lines import open_lines, read_lines
from saywhere.refine.query import refine_queries
from saywhere.refine.report import Prices
from saywhere.refine.run import refine, report
from saywhere.text.guards import Verdict, check


def access(endpoint: FakeEndpoint, **more: Any) -> Access:
    return Access(**{"url": endpoint.url, "timeout": 2.0, "backoff": 0.01, "attempts": 4, **more})


@pytest.mark.slow
def test_a_thousand_captions_survive_a_misbehaving_endpoint(tmp_path: Path) -> None:
    wanted = order(1000)
    out = tmp_path / "refined.jsonl"
    with serve(seed=1, weights=MISBEHAVING) as endpoint:
        with open_lines(out) as file:
            session = refine(wanted, file, access(endpoint), concurrency=24)
            found = report(wanted, file, session, Prices(1.0, 2.0)).to_dict()
        assert set(endpoint.kinds) == {*ANSWERS, *FAULTS}
    lines = read_lines(out)
    assert [line.key for line in lines] == [job.key for job in wanted.jobs]
    by_key = {job.key: job for job in wanted.jobs}
    for line in lines:
        job = by_key[line.key]
        assert line.original == job.original
        if line.origin == "rule":
            assert line.text == job.rule
            assert line.verdict is not Verdict.ACCEPTED
        else:
            assert line.origin == f"fake@{wanted.prompts['operator'].hash}"
            assert check(line.text, job.source, "operator") is Verdict.ACCEPTED
        # The guards again, by other means.
        assert not re.search(r"zeppelin|left|center|Backstein|sorry|\x00", line.text)
        said = set(re.findall(r"\w+", line.text.lower()))
        assert said <= set(re.findall(r"\w+", job.source.lower()))
        assert 5 <= len(line.text.split()) <= 25
    assert found["lines"] == 1000
    assert sum(found["verdicts"].values()) == 1000
    assert found["accepted"] + found["fell_back"] == 1000
    assert 400 < found["accepted"] < 900
    reasons = set(found["verdicts"])
    assert reasons >= {"new words", "orientation words", "other language", "refused", "unparsable"}
    assert set(found["this_run"]["retries"]) >= {"status 429", "status 500", "garbled response",
                                                 "time-out", "no connection"}  # fmt: skip
    tokens = found["this_run"]["tokens"]
    assert found["this_run"]["dollars"] == pytest.approx((tokens["in"] + 2 * tokens["out"]) / 1e6)


def test_the_same_command_again_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    out, cache = tmp_path / "refined.jsonl", tmp_path / "cache.sqlite"
    with serve() as endpoint, open_cache(cache) as answers:
        with open_lines(out) as file:
            refine(order(6), file, access(endpoint), cache=answers)
        assert endpoint.kinds.total() == 6
        with open_lines(out) as file:
            session = refine(order(9), file, access(endpoint), cache=answers)
        assert (session.written, endpoint.kinds.total()) == (3, 9)
        first = out.read_bytes()
        out.unlink()
        with open_lines(out) as file:
            session = refine(order(9), file, access(endpoint), cache=answers)
        assert (session.cached, session.calls, endpoint.kinds.total()) == (9, 0, 9)
        assert out.read_bytes() == first
        # Other parameters are other answers.
        with open_lines(tmp_path / "warm.jsonl") as file:
            refine(order(9, temperature=1.0), file, access(endpoint), cache=answers)
        assert endpoint.kinds.total() == 18


def test_a_file_of_other_settings_is_not_mixed(tmp_path: Path) -> None:
    out = tmp_path / "refined.jsonl"
    with serve() as endpoint:
        with open_lines(out) as file:
            refine(order(2), file, access(endpoint))
        with open_lines(out) as file, pytest.raises(InputError, match="another model, prompt"):
            refine(order(3, seed=5), file, access(endpoint))
        with open_lines(out) as file:  # another style is another prompt, and welcome
            refine(order(3, "both"), file, access(endpoint))
    assert len(read_lines(out)) == 6


def test_variants_have_their_own_seeds_and_no_duplicates(tmp_path: Path) -> None:
    out = tmp_path / "refined.jsonl"
    with serve() as endpoint, open_lines(out) as file:
        refine(order(2, variants=3, seed=10), file, access(endpoint))
        assert sorted(request["seed"] for request in endpoint.requests) == [10, 10, 11, 11, 12, 12]
    verdicts = [line.verdict for line in read_lines(out)]
    # The fake gives the same text to every variant.
    assert verdicts == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.DUPLICATE] * 2
    assert [line.seed for line in read_lines(out)] == [10, 11, 12] * 2


def test_kill_9_loses_nothing_that_was_written(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    entries = []
    for caption in dataset(30).captions:
        name = f"train/{caption.image_id[:4]}/1.jpg"
        (images / name).parent.mkdir(parents=True)
        (images / name).write_bytes(b"never decoded")
        entries.append({"image_id": name, "image": name, "caption": caption.text,
                        "sentences": [caption.text], "bboxes": [None]})  # fmt: skip
    source, out = tmp_path / "train.json", tmp_path / "refined.jsonl"
    source.write_text(json.dumps(entries))
    with serve(delay=0.05) as endpoint:
        command = [sys.executable, "-c", "from saywhere.cli import main; main()", "refine",
                   str(source), "--out", str(out),
                   "--style", "operator", "--model", "fake", "--endpoint", endpoint.url,
                   "--concurrency", "2", "--cache", str(tmp_path / "cache.sqlite")]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (out.exists() and out.read_bytes().count(b"\n") >= 5):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = out.read_bytes()
        assert 5 <= kept.count(b"\n") < 30
        with out.open("ab") as handle:  # as if the kill had hit the middle of a write
            handle.write(kept.split(b"\n")[0][:70])
        endpoint.delay = 0.0
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # At most the two that were in flight were asked for twice.
        assert endpoint.kinds.total() <= 32
    assert "30 of 30 lines" in done.stdout
    lines = read_lines(out)
    assert len({line.key for line in lines}) == len(lines) == 30
    assert set(kept.splitlines()) <= set(out.read_bytes().splitlines())


def test_an_endpoint_that_is_down_stops_the_run_and_not_the_next(tmp_path: Path) -> None:
    out = tmp_path / "refined.jsonl"
    with serve(weights={"500": 1}) as endpoint:
        with open_lines(out) as file, pytest.raises(InputError, match=r"30 captions in a row.*500"):
            refine(order(60), file, access(endpoint, attempts=1))
        assert all(line.verdict is Verdict.UNANSWERED for line in read_lines(out))
        endpoint.weights = {"good": 1}
        with open_lines(out, drop_unanswered=True) as file:
            assert file.lines == []
            refine(order(60), file, access(endpoint))
    assert [line.verdict for line in read_lines(out)] == [Verdict.ACCEPTED] * 60


@pytest.mark.parametrize(("status", "says"), [("401", "check the key"), ("404", "model's name")])
def test_hopeless_statuses_stop_at_once(tmp_path: Path, status: str, says: str) -> None:
    with serve(weights={status: 1}) as endpoint, open_lines(tmp_path / "r.jsonl") as file:
        with pytest.raises(InputError, match=says):
            refine(order(50), file, access(endpoint), concurrency=1)
        assert endpoint.kinds.total() == 1
    assert read_lines(tmp_path / "r.jsonl") == []


def test_an_endpoint_without_structured_output_is_asked_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind(self: FakeEndpoint, body: dict[str, Any], _: object) -> str:
        self.requests.append(body)
        return "400" if "response_format" in body else "good"

    monkeypatch.setattr(FakeEndpoint, "next_kind", kind)
    with serve() as endpoint, open_lines(tmp_path / "r.jsonl") as file:
        refine(order(12), file, access(endpoint), concurrency=4)
        with_schema = sum("response_format" in request for request in endpoint.requests)
    assert 1 <= with_schema <= 4
    assert {line.verdict for line in read_lines(tmp_path / "r.jsonl")} == {Verdict.ACCEPTED}


def test_retry_after_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("saywhere.refine.endpoint.asyncio.sleep", sleep)
    with serve(weights={"429": 1}) as endpoint, open_lines(tmp_path / "r.jsonl") as file:
        refine(order(1), file, access(endpoint, backoff=8.0, attempts=3))
        assert waits == [0.01, 0.01]
        endpoint.weights = {"500": 1}
    with serve(weights={"500": 1}) as endpoint, open_lines(tmp_path / "s.jsonl") as file:
        refine(order(1), file, access(endpoint, backoff=8.0, attempts=3))
    assert 4 <= waits[2] <= 8 <= waits[3] <= 16


def test_nothing_leaves_the_machine_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("https://api.example.com/v1", "http://192.168.1.7:8000/v1", "http://0.0.0.0/v1"):
        with pytest.raises(InputError, match="--allow-remote"):
            check_url(url, allow_remote=False)
        check_url(url, allow_remote=True)
    for url in ("file:///etc/passwd", "127.0.0.1:8080", "http://", "http://[::1"):
        with pytest.raises(InputError, match="no endpoint"):
            check_url(url, allow_remote=True)
    with pytest.raises(InputError, match="password") as raised:
        check_url("http://me:hunter2@127.0.0.1/v1", allow_remote=False)
    assert "hunter2" not in str(raised.value)
    assert all(is_loopback(host) for host in ("localhost", "127.8.0.1", "::1"))
    assert not is_loopback("localhost.example.com")
    # A proxy or a redirect would carry captions elsewhere.
    with serve() as elsewhere, serve() as endpoint, open_lines(tmp_path / "r.jsonl") as file:
        monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
        monkeypatch.setenv("ALL_PROXY", elsewhere.url)
        refine(order(2), file, access(endpoint))
        assert (endpoint.kinds.total(), elsewhere.kinds.total()) == (2, 0)
    with serve(weights={"redirect": 1}) as endpoint, open_lines(tmp_path / "s.jsonl") as file:
        session = refine(order(2), file, access(endpoint), concurrency=1)
        assert endpoint.kinds.total() == 2
        assert session.failures == {"status 307": 2}


def test_a_cache_that_breaks_midway_is_one_line(tmp_path: Path) -> None:
    with (
        serve() as endpoint,
        open_cache(tmp_path / "c.sqlite") as answers,
        open_lines(tmp_path / "r.jsonl") as file,
    ):
        answers._table.db.conn.close()
        with pytest.raises(InputError, match="no usable answer cache"):
            refine(order(3), file, access(endpoint), cache=answers)


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with (
        serve(weights={"good": 2, "500": 1}) as endpoint,
        open_cache(tmp_path / "cache.sqlite") as answers,
        open_lines(tmp_path / "r.jsonl") as file,
    ):
        refine(order(5), file, access(endpoint, key_name="MY_KEY"), cache=answers)
        assert endpoint.headers[0]["authorization"] == "Bearer sk-very-secret"
        endpoint.weights = {"401": 1}
        with pytest.raises(InputError) as raised:
            refine(order(6), file, access(endpoint, key_name="MY_KEY"))
    assert "sk-very-secret" not in str(raised.value)
    assert "sk-very-secret" not in "".join(capfd.readouterr())
    for path in tmp_path.iterdir():
        assert b"sk-very-secret" not in path.read_bytes()


def test_queries_are_refined_within_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "the big red brick church in the upper left, there is a pond next to it"
    with serve() as endpoint:
        config = QueryRefinementConfig(
            enabled=True, endpoint=endpoint.url, model="fake", budget_seconds=5
        )
        assert refine_queries([typed, "a barn"], config) == [
            "big red brick church, pond next to it", "a barn"
        ]  # fmt: skip
        cleaned = "the big red brick church, there is a pond next to it"
        for kind in ("invents", "refuses", "half", "500", "disconnect", "401", "429"):
            endpoint.weights = {kind: 1}
            assert refine_queries([typed], config) == [cleaned], kind
        endpoint.weights = {"drip": 1}
        started = time.monotonic()
        short = config.model_copy(update={"budget_seconds": 0.3})
        assert refine_queries([typed], short) == [cleaned]
        assert time.monotonic() - started < 3
    assert refine_queries([typed], config) == [cleaned]  # nobody listens any more
    with pytest.raises(ConfigError, match="model"):
        refine_queries([typed], config.model_copy(update={"model": ""}))
    far = config.model_copy(update={"endpoint": "https://api.example.com/v1"})
    with pytest.raises(ConfigError, match="allow-remote"):
        refine_queries([typed], far)


def test_queries_need_the_extra_only_when_they_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openai", "snowballstemmer", "sqlite_utils"):
        monkeypatch.setitem(sys.modules, name, None)
    off = load_config()
    assert clean_texts(_experts(off), ["a roof"]) == ["a roof"]
    on = load_config(overrides=["text.query.enabled=true", "text.query.model=m"])
    with pytest.raises(MissingExtraError, match=r"saywhere\[refine\]"):
        clean_texts(_experts(on), ["a roof"])


def test_the_flags_of_search_switch_refinement_on() -> None:
    with serve() as endpoint:
        experts = with_refinement(_experts(load_config()), "fake", endpoint.url, 5.0)
        assert experts.config.text.query.budget_seconds == 5
        typed = "there is a red brick church and a pond next to it"
        assert clean_texts(experts, [typed]) == ["red brick church and pond next to it"]
    untouched = _experts(load_config())
    assert with_refinement(untouched, None, None, None) is untouched
    assert not with_refinement(untouched, None, None, 1.0).config.text.query.enabled


def _experts(config: Config) -> ExpertSet:
    """Experts that were never trained: a configuration is all that cleaning asks for."""
    return ExpertSet(config, (), {}, None, None, {})
