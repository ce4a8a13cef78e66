"""The ladder: its rows, its resuming, its differences, on planted ranks and on a rendered world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from saywhere.ablation import plan, run
from saywhere.ablation.compare import outcome, query_values
from saywhere.ablation.config import AblationConfig, load_ablation
from saywhere.ablation.run import kept_places, run_ablation
from saywhere.bootstrap import paired_difference
from saywhere.cli import commands
from saywhere.errors import ConfigError, InputError
from saywhere.types import Platform, Record

_SMALL = """
seeds = [0]
[config]
head = {{ hidden = 16, dimension = 8 }}
views = {{ test = ["full"], train = 1 }}
text = {{ rule_variants = 1 }}
[config.train]
members = 1
refit = false
fit_places_ending_in = "1"
stage1 = {{ epochs = 1 }}
fine_tune = {{ epochs = 1 }}
stage2 = {{ epochs = 1 }}
[evaluate]
queries = "{world}/track4"
"""


@pytest.fixture
def file(tmp_path: Path, small_world: Path) -> Path:
    path = tmp_path / "ladder.toml"
    text = f'train = "{small_world}/geotext/train.json"\n' + _SMALL.format(world=small_world)
    path.write_text(text)
    return path


def _steps(file: Path, *overrides: str) -> dict[str, plan.Step]:
    return {step.name: step for step in plan.steps(load_ablation(file, overrides))}


def test_each_rung_switches_on_one_part_more(file: Path) -> None:
    ablation = load_ablation(file)
    ladder = [step for step in plan.steps(ablation) if step.section == "ladder"]
    configs = [ablation.recipe(step.overrides) for step in ladder]
    on = [
        (
            config.train.layout == "experts",
            config.views.satellite_augmentation,
            bool(config.text.remove_orientation),
            config.text.rule_variants > 0,
            config.train.stage2.epochs > 0,
        )
        for config in configs
    ]
    assert [parts.count(True) for parts in on] == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert all(parts == tuple(sorted(parts, reverse=True)) for parts in on)
    assert [step.mode for step in ladder[-3:]] == ["mean", "weighted", "gated"]
    before = [step.name for step in ladder[:6]]
    assert [step.against for step in ladder] == [None, *before[:5], *[before[5]] * 3]


def test_each_row_left_out_is_everything_but_one(file: Path) -> None:
    ablation = load_ablation(file)
    rows = [step for step in plan.steps(ablation) if step.section == "leave one out"]
    whole = ablation.recipe().model_dump()
    assert len(rows) == 11
    for step in rows[1:]:
        assert step.against == plan.EVERYTHING
        changed = ablation.recipe(step.overrides).model_dump()
        assert (changed != whole) != (step.mode == "own")


def test_what_the_recipe_lacks_is_not_left_out(file: Path) -> None:
    rows = _steps(file, 'config.towers.text.words=""')
    assert "− member in closed form" in rows
    assert not any("static words" in name for name in rows)
    assert "− tuned blocks and member in closed form" in rows
    rows = _steps(file, 'config.towers.image.tuned=""')
    assert not any("tuned blocks" in name for name in rows)


def test_the_generalist_of_matched_parameters_has_as_many(file: Path) -> None:
    from saywhere.heads import create_member

    ablation = load_ablation(file)
    wide = ablation.recipe(_steps(file)["generalist, parameters matched"].overrides)
    images, words = np.random.default_rng(0).normal(size=(2, 9, 32)).astype(np.float32)
    counts = [
        sum(p.numel() for p in create_member(images, words, config.head, 0).parameters())
        for config in (ablation.recipe(), wide)
    ]
    assert counts[1] / (3 * counts[0]) == pytest.approx(1, abs=0.05)
    three = ablation.recipe(_steps(file)["three generalists averaged"].overrides)
    assert (three.train.members, three.train.layout) == (3, "generalist")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("config.text.rule_variants=0", "text.rule_variants"),
        ("config.train.layout=generalist", "train.layout"),
        ("config.fusion.mode=own", "fusion.mode"),
        ("seeds=[1, 1]", "twice"),
        ("sections=['controls']", "leave one out"),
        ("subset.satellite=1", "fewer than two places"),
        ("sed=[1]", "no such setting"),
        ("config.trian.members=1", "trian"),
    ],
)
def test_what_cannot_be_measured_is_refused(file: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_ablation(file, [override])
    assert "\n" not in str(caught.value)


def test_sections_are_a_choice_of_rows(file: Path) -> None:
    rows = _steps(file, "sections=['leave one out', 'controls']")
    assert len(rows) == 11 + 4
    assert all(step.against is None or step.against in rows for step in rows.values())


def test_too_many_members_for_three_generalists(file: Path) -> None:
    with pytest.raises(ConfigError, match="set it to 5 or fewer"):
        _steps(file, "config.train.members=6")


def test_refined_captions_take_the_place_of_variants(file: Path) -> None:
    override = ("refined=lines.jsonl", "config.text.rule_variants=0")
    found = _steps(file, *override)
    assert "+ refined captions" in found
    ablation = load_ablation(file, override)
    assert ablation.recipe().text.refined == "add"
    assert ablation.recipe(found["− refined captions"].overrides).text.refined == "off"


def test_a_subset_keeps_whole_places_and_other_platforms() -> None:
    records = tuple(
        Record(f"{p}/{n}/{k}", Path("x"), p, f"{n:04d}")
        for n in range(10)
        for p in (Platform.SATELLITE, Platform.DRONE)
        for k in range(2)
    )
    kept = kept_places(records, {Platform.SATELLITE: 3})
    satellite = [r for r in kept if r.platform is Platform.SATELLITE]
    assert len({r.place_id for r in satellite}) == 3
    assert (len(satellite), len(kept)) == (6, 26)
    assert kept == kept_places(records[::-1], {Platform.SATELLITE: 3})[::-1]
    with pytest.raises(InputError, match=r"subset\.satellite: there are 10 places, 11"):
        kept_places(records, {Platform.SATELLITE: 11})


def test_an_outcome_is_paired_by_query_over_seeds() -> None:
    ranks = [np.asarray([1, 3, 20, 9]), np.asarray([1, 6, 2, 11])]
    other = [np.asarray([2, 3, 20, 12]), np.asarray([2, 6, 2, 11])]
    places = np.asarray(["a", "a", "b", "c"])
    third = 100 / 3
    assert query_values(ranks) == pytest.approx([100, 1.5 * third, third, third / 2])
    found = outcome(ranks, other, places)
    assert found.recalls == pytest.approx((25, 50, 75))
    assert found.difference == paired_difference(query_values(ranks), query_values(other), places)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(np.mean([third, 0, 0, third / 2]))
    assert found.seed_spread == pytest.approx(np.std([50.0, 50.0]))
    assert "could show" in found.cells()[-1]
    assert outcome(ranks, None, places).cells()[-1] == "–"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings as they begin, and none of them made: answers are drawn from the recipe."""
    seen: list[str] = []

    def answer(job: Any, material: Any, artefacts: Any) -> None:
        seen.append(job.key)
        draw = np.random.default_rng(int(job.key[:8], 16))
        ranks = {
            mode: {
                name: draw.integers(1, 12, len(task.queries)).tolist()
                for name, task in material.tasks.items()
            }
            for mode in job.modes
        }
        value = {"ranks": ranks, "parameters": 9, "seconds": 60, "git_commit": "abc"}
        artefacts.save(job.key, value)

    monkeypatch.setattr(run, "_train", answer)
    monkeypatch.setattr(run, "_warm_up", lambda *_: None)
    return seen


def _run(ablation: AblationConfig, out: Path) -> Any:
    return run_ablation(ablation, out, lambda _line: None)


def test_the_same_command_goes_on(file: Path, tmp_path: Path, trained: list[str]) -> None:
    first = _run(load_ablation(file), tmp_path / "out").to_dict()
    assert len(trained) == len(set(trained)) == 18  # rows that differ in fusion share a training
    assert len(first["rows"]) == 24
    lost = sorted((tmp_path / "out/results").iterdir())[:2]
    lost[0].unlink()
    lost[1].write_text("{")  # half written by another program
    again = _run(load_ablation(file), tmp_path / "out").to_dict()
    assert sorted(trained[18:]) == [path.stem for path in lost]
    assert again["rows"] == first["rows"]
    _run(load_ablation(file, ["seeds=[0, 1]"]), tmp_path / "out")
    assert len(trained) == 20 + 18
    _run(load_ablation(file, ["config.head.hidden=24"]), tmp_path / "out")
    assert len(trained) == 38 + 18


def test_another_subset_is_another_training(file: Path, tmp_path: Path, trained: list[str]) -> None:
    _run(load_ablation(file), tmp_path)
    _run(load_ablation(file, ["subset.satellite=5"]), tmp_path)
    assert len(set(trained)) == 36


def test_a_failed_training_stops_the_others(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    def fail(*_: object) -> None:
        raise InputError("no")

    monkeypatch.setattr(run, "_train", fail)
    with pytest.raises(InputError, match="no"):
        _run(load_ablation(file), tmp_path)
    assert not trained


def test_tables_and_picture(file: Path, tmp_path: Path, trained: list[str]) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(commands, ["ablate", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == (out / "ladder.md").read_text().strip()
    assert done.stdout.count("\n| ") == 24 + 3  # and a head for each section
    report = json.loads((out / "ladder.json").read_text())
    by_name = {row["name"]: row for row in report["rows"]}
    gap = by_name["+ platform experts"]["tasks"]["queries"]
    base = by_name["generalist"]["tasks"]["queries"]
    assert gap["difference"]["value"] == pytest.approx(
        gap["value"]["value"] - base["value"]["value"]
    )
    assert gap["difference"]["minimum_detectable"] > 0
    assert report["commits"] == ["abc"]
    with Image.open(out / "ladder.png") as picture:
        assert picture.width > picture.height / 3
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50


def test_one_real_training(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the row with everything, end to end."""

    def only(ablation: AblationConfig) -> Sequence[plan.Step]:
        wanted = ("everything", "− fusion (own expert)")
        return [replace(step) for step in plan.steps(ablation) if step.name in wanted]

    monkeypatch.setattr(run, "steps", only)
    found = _run(load_ablation(file), tmp_path).to_dict()
    both = found["rows"]
    assert [row["name"] for row in both] == ["everything", "− fusion (own expert)"]
    assert both[0]["parameters"] == both[1]["parameters"] > 10_000
    assert 0 <= both[0]["tasks"]["queries"]["recall_at_10"] <= 100
    assert len(list((tmp_path / "results").iterdir())) == 1
