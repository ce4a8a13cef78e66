"""Refinement without an endpoint: prompts, answers, lines, cache, batches, training, the verb."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from saywhere.bundle import load_experts
from saywhere.cli import commands
from saywhere.config import TextConfig
from saywhere.data import read
from saywhere.errors import InputError, SaywhereError
from saywhere.refine.answers import Answer, read_body, read_text
from saywhere.refine.cache import answer_key, open_cache
from saywhere.refine.lines import RefinedLine, open_lines, parse_line, read_lines
from saywhere.refine.prompts import STYLES, load_prompts, parse_prompt
from saywhere.refine.training import with_lines
from saywhere.text.guards import Verdict, check
from saywhere.text.orientation import has_orientation
from saywhere.trainset import training_texts
from saywhere.types import Caption, Dataset, Platform, Record

LINE = RefinedLine(
    key="k1", image_id="1.jpg", style="operator", variant=0, original="A red roof is on the left.",
    text="red roof", origin="m@abc", verdict=Verdict.ACCEPTED, refused="", model="m", prompt="abc",
    temperature=0.3, seed=0,
)  # fmt: skip
REFINE = ("refine", "--style", "operator")


def run(*args: object) -> str:
    """What a verb prints; its errors pass."""
    done = CliRunner().invoke(commands, [str(arg) for arg in args], catch_exceptions=True)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("style", STYLES)
def test_built_in_prompts_show_what_the_guards_accept(style: str) -> None:
    prompt = load_prompts([style])[style]
    _, example, rewrite, _ = prompt.texts
    source, answer = example.partition(": ")[2], rewrite
    assert check(answer, source, style) is Verdict.ACCEPTED
    assert not has_orientation(rewrite)
    system, user, shown, last = prompt.messages("A red {caption} roof.")
    assert [m["role"] for m in (system, user, shown, last)] == [
        "system", "user", "assistant", "user"
    ]  # fmt: skip
    assert json.loads(shown["content"]) == {"text": rewrite}
    assert last["content"].endswith("A red {caption} roof.")


def test_a_folder_overrides_prompts_one_by_one(tmp_path: Path) -> None:
    text = "[system]\nShorten.\n[user]\na b\n[assistant]\nb\n[user]\n{caption}\n"
    (tmp_path / "drone.txt").write_text(text)
    found = load_prompts(["drone", "ground"], tmp_path)
    assert found["drone"].messages("x")[0]["content"] == "Shorten."
    assert found["ground"] == load_prompts(["ground"])["ground"]
    assert found["drone"].hash != load_prompts(["drone"])["drone"].hash
    for bad, says in (
        ("Shorten {caption}", "parts"),
        (text.replace("[user]\na b\n", ""), "parts"),
        (text.replace("{caption}", "it"), "once"),
        (text.replace("a b", "{caption}"), "once"),
        (text.replace("Shorten.", ""), "none empty"),
    ):
        with pytest.raises(InputError, match=says):
            parse_prompt("drone", bad, "drone.txt")
    (tmp_path / "drone.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_prompts(["drone"], tmp_path)
    (tmp_path / "drone.txt").unlink()
    with pytest.raises(InputError, match="holds none of"):
        load_prompts(["drone"], tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "red roof"}', "red roof"),
        ('```json\n{"text": "red\\n roof"}\n```', "red roof"),
        ('Sure! Here it is: {"note": 1} {"text": "red roof"} Enjoy.', "red roof"),
        ('Rewrite: "red roof"', "red roof"),
        ("  red roof\x07 ", "red roof"),
        ('{"text": "red ro', None),
        ('{"text": 7}', None),
        ('{"text": ""}', None),
        ("one\ntwo", None),
        ("", None),
        ("{" * 3000, None),
        ("red " * 2000, None),
    ],
)
def test_texts_are_found_or_not(content: str, expected: str | None) -> None:
    text, verdict = read_text(Answer(content))
    assert (text, verdict) == (expected, None) if expected else verdict is Verdict.UNPARSABLE


def test_cut_and_refused_answers_do_not_count() -> None:
    assert read_text(Answer('{"text": "red roof"}', finish="length"))[1] is Verdict.CUT
    assert read_text(Answer("", refused=True))[1] is Verdict.REFUSED
    assert read_text(Answer("I'm sorry, no.\nReally."))[1] is Verdict.REFUSED


def test_bodies_are_read_without_trust() -> None:
    message: dict[str, Any] = {"content": "x", "refusal": None}
    body = {"choices": [{"message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": -1}}  # fmt: skip
    assert read_body(body) == Answer("x", tokens_in=5)
    refused = {"choices": [{"message": {"content": None, "refusal": "no"}}]}
    assert read_body(refused) == Answer("", refused=True)
    wrong = {"choices": [{"message": {"content": 3}}]}
    bodies: list[object] = [None, [], {}, "x", {"choices": []}, {"choices": [None]}, wrong]
    assert [read_body(bad) for bad in bodies] == [None] * len(bodies)


def test_a_torn_last_line_is_cut_off_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "refined.jsonl"
    second = replace(LINE, key="k2", text="ein Dach — rot")
    with open_lines(path) as file:
        file.append(LINE)
        file.append(second)
    whole = path.read_bytes()
    for length in range(len(whole) - 1, whole.index(b"\n"), -7):
        path.write_bytes(whole[:length])
        assert read_lines(path) == [LINE]
        with open_lines(path) as file:
            assert file.lines == [LINE]
            file.append(second)
        assert path.read_bytes() == whole
    for bad in (b"{}\n", b"[]\n", b"\n", b"\xff\n", whole.replace(b"accepted", b"fine")):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="line 1"), open_lines(path):
            pass
        assert path.read_bytes() == bad
    assert parse_line(LINE.to_json()) == LINE


def test_one_process_at_a_time_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "refined.jsonl"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another saywhere refine"), open_lines(path):
        pass
    os.close(descriptor)
    with open_lines(path) as file:
        file.append(LINE)
    with pytest.raises(InputError, match="cannot be written"), open_lines(path / "below"):
        pass
    with pytest.raises(InputError, match="cannot be read"):
        read_lines(tmp_path / "none.jsonl")


def test_answers_are_kept_by_all_that_shapes_them(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    answer = Answer("red \ud800 roof", "length", True, 3, 4, 0.5)
    keys = {
        answer_key(*key)
        for key in (
            ("m", "p", "c", {"seed": 0, "temperature": 0.0}),
            ("n", "p", "c", {"seed": 0, "temperature": 0.0}),
            ("m", "q", "c", {"seed": 0, "temperature": 0.0}),
            ("m", "p", "d", {"seed": 0, "temperature": 0.0}),
            ("m", "p", "c", {"seed": 1, "temperature": 0.0}),
        )
    }
    assert len(keys) == 5
    with open_cache(path) as cache:
        cache.put("k", answer)
    with open_cache(path) as cache, open_cache(path) as other:
        assert cache.get("k") == replace(answer, content="red ? roof")
        other.put("k", Answer("new"))
        assert cache.get("k") == Answer("new")
        assert cache.get("x") is None
    path.write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="no usable answer cache"), open_cache(path):
        pass


def tiny() -> Dataset:
    records = tuple(Record(f"{k}.jpg", Path(f"{k}.jpg"), Platform.DRONE, str(k)) for k in (1, 2))
    captions = tuple(Caption(r.image_id, LINE.original, LINE.original) for r in records)
    return Dataset("geotext", Path("train.json"), records, captions)


def test_refined_texts_replace_captions_or_join_them() -> None:
    replaced = with_lines(tiny(), [LINE], "replace", "f")
    assert [c.text for c in replaced.captions] == ["red roof", LINE.original]
    assert replaced.captions[0] == Caption("1.jpg", "red roof", LINE.original, "m@abc")
    added = with_lines(tiny(), [LINE, replace(LINE, text="a roof, red", origin="rule")], "add", "f")
    assert [c.text for c in added.captions] == [
        LINE.original, "red roof", "a roof, red", LINE.original
    ]  # fmt: skip
    assert [c.origin for c in added.captions] == ["dataset", "m@abc", "rule", "dataset"]
    texts = training_texts(replaced, TextConfig())[0]
    assert texts == ["red roof"]
    for other in (replace(LINE, image_id="9.jpg"), replace(LINE, original="Another caption.")):
        with pytest.raises(InputError, match="none of its 1 lines"):
            with_lines(tiny(), [other], "add", "f")


def test_rule_variants_join_the_captions_of_a_dataset() -> None:
    text = "A red hall with a white roof stands on the left. Two ponds and a lawn lie behind it."
    record = Record("1.jpg", Path("1.jpg"), Platform.DRONE, "1")
    data = Dataset("geotext", Path("t"), (record,), (Caption("1.jpg", text, text),))
    plain = training_texts(data, TextConfig())[0]
    more = training_texts(data, TextConfig(rule_variants=2))[0]
    assert more[:2] == plain
    assert len(more) == 4
    assert all(text.startswith("red hall with white roof") for text in more[2:])
    lines = [replace(LINE, original=text)]
    refined = with_lines(data, lines, "add", "f")  # a refined text has no variants of its own
    assert training_texts(refined, TextConfig(rule_variants=2))[0] == [*more, "red roof"]


def test_the_verb_from_rules_to_experts(small_world: Path, tmp_path: Path) -> None:
    source, out = small_world / "geotext/train.json", tmp_path / "refined.jsonl"
    found = json.loads(run(*REFINE, source, "--out", out, "--rules-only", "--json"))
    count = len(read(source).captions)
    assert found["verdicts"] == {"rule": count}
    lines = read_lines(out)
    assert {line.origin for line in lines} == {"rule"}
    assert json.loads(run(*REFINE, source, "--out", out, "--rules-only", "--json"))["this_run"][
        "written"
    ] == 0  # fmt: skip
    experts = tmp_path / "experts"
    small = ["views.test=['full']", "views.train=0", "train.layout=generalist", "train.members=1",
             "train.stage1.epochs=2", "train.stage2.epochs=0", "head.hidden=32",
             "train.fit_places_ending_in=''", "text.refined=replace"]  # fmt: skip
    flags = [flag for value in small for flag in ("--set", value)]
    run("train", source, "--out", experts, "--refined", out, "--threads", 1, *flags)
    assert load_experts(experts).provenance["data"]["origins"] == {"rule": count}
    with pytest.raises(InputError, match="give both"):
        run("train", source, "--out", experts, "--overwrite", *flags)
    with pytest.raises(InputError, match="give both"):
        run("train", source, "--out", experts, "--overwrite", "--refined", out)


def test_a_dry_run_prints_prompts_and_sends_nothing(small_world: Path, tmp_path: Path) -> None:
    out = tmp_path / "refined.jsonl"
    args = ("refine", small_world / "geotext/train.json", "--out", out, "--style", "both",
            "--dry-run", "--endpoint", "https://api.example.com/v1")  # fmt: skip
    printed = run(*args)
    assert "# operator, prompt" in printed
    assert "# satellite, prompt" in printed
    assert load_prompts(["ground"])["ground"].texts[0] in printed
    found = json.loads(run(*args, "--json"))
    assert {entry["style"] for entry in found} == set(STYLES)
    assert not out.exists()


def test_batches_go_out_and_come_back(small_world: Path, tmp_path: Path) -> None:
    source, out = small_world / "geotext/train.json", tmp_path / "refined.jsonl"
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    base = (*REFINE, source, "--out", out, "--model", "m", "--limit", 4)
    run(*base, "--write-batch", requests)
    sent = [json.loads(line) for line in requests.read_text().splitlines()]
    assert len({item["custom_id"] for item in sent}) == len(sent) == 4
    assert {(item["method"], item["url"]) for item in sent} == {("POST", "/v1/chat/completions")}
    assert all(item["body"]["model"] == "m" for item in sent)

    def result(item: dict[str, Any], text: str, status: int = 200) -> str:
        body = {"choices": [{"message": {"content": json.dumps({"text": text})}}]}
        response = {"status_code": status, "body": body}
        return json.dumps({"custom_id": item["custom_id"], "response": response, "error": None})

    caption = read(source).captions[1].original.split(". ")[0]
    back = [result(sent[2], "x", 500), result(sent[1], caption), result(sent[0], "a zeppelin")]
    results.write_text("\n".join(back) + "\n")
    found = json.loads(run(*base, "--read-batch", results, "--json"))
    assert (found["lines"], found["wanted"]) == (3, 4)  # what is not in it stays missing
    verdicts = [str(line.verdict) for line in read_lines(out)]
    assert verdicts[0] != "accepted"
    assert verdicts[2] == "unanswered"
    run(*base, "--write-batch", requests)
    assert json.loads(requests.read_text())["custom_id"] == sent[3]["custom_id"]
    results.write_text("[]")
    with pytest.raises(InputError, match="line 1: is no batch result"):
        run(*base, "--read-batch", results)


def test_the_verb_refuses_what_makes_no_sense(small_world: Path, tmp_path: Path) -> None:
    source, out = small_world / "geotext/train.json", tmp_path / "refined.jsonl"
    for args, says in (
        ((), "no model is named"),
        (("--rules-only", "--dry-run"), "exclude one another"),
        (("--model", "m", "--endpoint", "http://10.0.0.1/v1"), "--allow-remote"),
        (("--model", "m", "--prompts", tmp_path), "holds none of"),
    ):
        with pytest.raises(SaywhereError, match=says):
            run("refine", source, "--out", out, *args)
    assert not out.exists()
    with pytest.raises(InputError, match="has no captions"):
        run("refine", source.parent / "images", "--out", out, "--rules-only")
