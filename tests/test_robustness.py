"""Corruptions: the same every time, stronger by severity, honest about what was retained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saywhere.bundle import load_experts
from saywhere.cli import commands
from saywhere.data import read
from saywhere.embed import embed_images, platform_codes
from saywhere.errors import InputError
from saywhere.hardware import Runtime
from saywhere.images import read_image
from saywhere.robustness import robustness_markdown, run, texts
from saywhere.robustness.encode import embed_decoded
from saywhere.robustness.images import COMMON, corrupt_image
from saywhere.robustness.run import Plan, run_robustness
from saywhere.task import Task, make_task

_QUERY = "big grey building beside a car park, five storeys, next to the parking lot of a store"


@pytest.fixture(scope="module")
def photo(small_world: Path) -> Image.Image:
    return read_image(sorted((small_world / "imagery").rglob("*.jp*g"))[0]).resize((300, 240))


def _distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("name", [*COMMON, "occlusion"])
def test_images_are_corrupted_alike_every_time(photo: Image.Image, name: str) -> None:
    before = np.random.get_state(legacy=False)
    first = corrupt_image(photo, name, 3, seed=5)
    assert (first.size, first.mode) == ((280, 224), "RGB")
    assert _distance(first, corrupt_image(photo, name, 3, seed=5)) == 0
    assert _distance(first, photo.resize((280, 224), Image.Resampling.BICUBIC)) > 1
    after = np.random.get_state(legacy=False)
    assert np.array_equal(before["state"]["key"], after["state"]["key"])


@pytest.mark.parametrize("name", ["gaussian_noise", "defocus_blur", "pixelate", "occlusion"])
def test_images_suffer_more_by_severity(photo: Image.Image, name: str) -> None:
    clean = photo.resize((280, 224), Image.Resampling.BICUBIC)
    away = [_distance(clean, corrupt_image(photo, name, s, seed=0)) for s in range(1, 6)]
    assert away == sorted(away)


def test_an_occlusion_hides_its_share() -> None:
    white = Image.new("RGB", (224, 224), "white")
    for seed in range(5):
        hidden = np.asarray(corrupt_image(white, "occlusion", 4, seed)) != 255
        assert hidden.mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("name", "severity"), [("rain", 3), ("fog", 0), ("fog", 6)])
def test_unknown_corruptions_are_refused(photo: Image.Image, name: str, severity: int) -> None:
    with pytest.raises(InputError, match="is no corruption; choose from"):
        corrupt_image(photo, name, severity, 0)
    with pytest.raises(InputError, match="choose from"):
        texts.corrupt_text("a pond", name, severity)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=60), st.sampled_from(texts.NAMES), st.integers(1, 5))
def test_any_text_can_be_corrupted(text: str, name: str, severity: int) -> None:
    found = texts.corrupt_text(text, name, severity)
    assert found == texts.corrupt_text(text, name, severity)
    assert not text.split() or found.split()


def test_words_dropped_and_mistyped_by_severity() -> None:
    words = _QUERY.split()
    left = [len(texts.corrupt_text(_QUERY, "dropped_words", s).split()) for s in range(1, 6)]
    assert left == [len(words) - gone for gone in (1, 2, 4, 6, 7)]
    mistyped = []
    for severity in range(1, 6):
        found = texts.corrupt_text(_QUERY, "typos", severity).split()
        assert len(found) == len(words)
        changed = [(a, b) for a, b in zip(words, found, strict=True) if a != b]
        assert all(a[0] == b[0] and abs(len(a) - len(b)) <= 1 for a, b in changed)
        mistyped.append(len(changed))
    assert mistyped == [1, 2, 4, 6, 7]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("synonyms", "Car park by a parking lot", "Parking lot by a car park"),
        ("synonyms", "a carpark and shopping", "a carpark and shopping"),
        ("american", "grey centre, three storeys", "gray center, three stories"),
        ("british", "gray center, three stories", "grey centre, three storeys"),
        ("british", "a parking lot", "a car park"),
    ],
)
def test_other_wordings(name: str, text: str, expected: str) -> None:
    assert texts.corrupt_text(text, name, 3) == expected


def test_no_word_of_the_tables_turns_into_itself() -> None:
    for pattern, table in texts._TABLES.values():
        assert all(word != other and pattern.fullmatch(word) for word, other in table.items())


@pytest.fixture(scope="module")
def task(small_world: Path) -> Task:
    return make_task(read(small_world / "track4"))


def test_decoded_images_are_embedded_as_files_are(task: Task, small_experts: Path) -> None:
    experts = load_experts(small_experts)
    files = embed_images(experts, task.records, runtime=Runtime(1)).embeddings.vectors
    images = [read_image(record.path) for record in task.records]
    for threads in (1, 2):
        found = embed_decoded(experts, images, platform_codes(task.records), Runtime(threads))
        np.testing.assert_allclose(found, files, atol=1e-5)


def test_what_is_retained(task: Task, small_experts: Path, tmp_path: Path) -> None:
    plan = Plan(images=("occlusion", "contrast"), words=("dropped_words", "american"),
                every_severity=("dropped_words",))  # fmt: skip
    experts, said = load_experts(small_experts), list[str]()
    found = run_robustness(experts, task, plan, tmp_path, said.append, runtime=Runtime(1))
    assert [(t.name, t.severity) for t in found.trials] == [
        ("occlusion", 3), ("contrast", 3), ("dropped_words", 3), ("american", 3),
        ("dropped_words", 1), ("dropped_words", 2), ("dropped_words", 4), ("dropped_words", 5),
    ]  # fmt: skip
    assert len(said) == len(found.trials)
    for trial in found.trials:
        assert trial.retained == pytest.approx(100 * trial.recall[0] / found.clean)
        assert trial.loss[0] == pytest.approx(found.clean - trial.recall[0])
        assert trial.changed == 100 or trial.name == "american"
    by_name = {trial.name: trial for trial in found.trials if trial.severity == 3}
    # Occlusion is none of the fifteen, and is left out of their mean.
    assert found.mean_retained("image") == by_name["contrast"].retained
    words = [by_name[name].retained for name in ("dropped_words", "american")]
    assert found.mean_retained("words") == pytest.approx(np.mean(words))
    assert found.mean_retained("image", 5) is None


def test_all_severities_can_be_asked_for() -> None:
    plan = Plan(images=("fog",), words=("typos", "american"), every_severity=("all",))
    assert len(plan.trials()) == 5 + 5 + 1
    assert plan.trials()[:3] == [
        ("image", "fog", 3),
        ("words", "typos", 3),
        ("words", "american", 3),
    ]
    with pytest.raises(InputError, match=r"fgo: cannot .*; choose from fog, typos, all$"):
        Plan(images=("fog",), words=("typos",), every_severity=("fgo",))


def test_curves_are_averaged_over_the_same_corruptions_at_every_severity() -> None:
    def trial(name: str, kind: str, severity: int, retained: float) -> run.Trial:
        nothing = (0.0, 0.0, 0.0)
        return run.Trial(kind, name, "weather", severity, nothing, nothing, retained, 100)

    trials = [trial("fog", "image", s, 90 - 10 * s) for s in range(1, 6)]
    trials += [trial("snow", "image", s, 50) for s in range(1, 6)]
    trials += [trial("occlusion", "image", s, 0) for s in range(1, 6)]
    trials += [trial("frost", "image", 3, 0)]
    context = {"queries": 1, "images": 1, "platforms_known": 0, "experts": ["generalist"],
               "expert_hash": "0" * 64, "fusion": "mean", "views": ["full"]}  # fmt: skip
    table = robustness_markdown(run.Robustness(50, tuple(trials), context))
    assert "| fog | 80 | 70 | 60 | 50 | 40 |" in table
    assert "| **mean of the common ones** | 65 | 60 | 55 | 50 | 45 |" in table
    assert "| frost | " not in table.split("| group |")[0]


def test_fewer_views_are_seen_clean_and_corrupted(
    small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    experts = load_experts(small_experts)
    views = experts.config.views.model_copy(update={"test": ("full", "flip", "large")})
    wide = replace(experts, config=experts.config.model_copy(update={"views": views}))
    assert wide.with_views(2).config.views.test == ("full", "flip")
    assert len({wide.hash, wide.with_views(2).hash, wide.with_views(1).hash}) == 3
    done = CliRunner().invoke(
        commands,
        ["robustness", str(small_world / "track4"), "--experts", str(small_experts), "--no-plot",
         "--out", str(tmp_path), "--words", "british", "--views", "1", "--threads", "1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads((tmp_path / "robustness.json").read_text())["context"]["views"] == ["full"]


def test_the_same_command_goes_on(
    task: Task, small_experts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts, plan = load_experts(small_experts), Plan(images=("fog",), words=("typos",))
    first = run_robustness(experts, task, plan, tmp_path, lambda _: None, runtime=Runtime(1))
    monkeypatch.setattr(run, "embed_decoded", None)  # asked again, it would fail
    again = run_robustness(experts, task, plan, tmp_path, lambda _: None, runtime=Runtime(1))
    assert again == first
    with pytest.raises(TypeError):
        run_robustness(
            experts.with_mode("own"), task, plan, tmp_path, lambda _: None, runtime=Runtime(1)
        )


def test_the_command_writes_tables_and_curves(
    small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    options = ("--image", "fog", "--words", "typos", "--curve", "typos", "--unknown-platforms",
               "--threads", "1")  # fmt: skip
    done = CliRunner().invoke(
        commands,
        ["robustness", str(small_world / "track4"), "--experts", str(small_experts),
         "--out", str(tmp_path), *options],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "robustness.md").read_text().strip()
    assert done.stdout.count("\n| ") == 1 + 6 + 3  # and the curve with its head and mean
    curve = next(line for line in done.stdout.splitlines() if line.startswith("| typos |"))
    assert len(curve.split("|")) == 2 + 6
    assert "| fog | 3 |" not in curve
    report = json.loads((tmp_path / "robustness.json").read_text())
    assert report["context"]["platforms_known"] == 0
    assert len(report["trials"]) == 6
    with Image.open(tmp_path / "robustness.png") as picture:
        assert picture.width > picture.height
