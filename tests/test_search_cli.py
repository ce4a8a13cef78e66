"""Match probabilities as a user meets them: JSON, table, remarks, or none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saywhere.bundle import load_experts, save_experts
from saywhere.certainty import Certainty
from saywhere.cli import commands
from saywhere.match import LEAST_CONFIDENT
from saywhere.sharpness import Sharpness

Run = Callable[..., Result]
QUERY = "a pond beside a building with a red roof"


@pytest.fixture(scope="module")
def run(small_world: Path, small_experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Search an index whose experts have a sharpness; ``plain`` ones have none."""
    folder = tmp_path_factory.mktemp("fitted")
    loaded = load_experts(small_experts)
    sharpness: dict[str, Sharpness] = {loaded.config.fusion.mode: Sharpness(0.1, 0.03, 3.0)}
    towers = {path.name: path for path in (small_experts / "towers").iterdir()}
    save_experts(replace(loaded, sharpness=sharpness), folder / "experts", towers)
    images = small_world / "imagery"
    arguments = ["index", images, "--experts", folder / "experts", "--index", folder / "index"]
    done = CliRunner().invoke(commands, [*map(str, arguments)])
    assert done.exception is None, done.exception

    def call(*arguments: object, plain: bool = False) -> Result:
        experts = ["--experts", str(small_experts)] if plain else []
        done = CliRunner().invoke(
            commands, ["search", *map(str, arguments), "--index", str(folder / "index"), *experts]
        )
        assert done.exception is None, done.exception
        return done

    return call


def test_json_tells_probabilities(run: Run) -> None:
    found = json.loads(run(QUERY, "--json", "-k", 100).stdout)
    assert set(found) == {
        "query", "images", "index", "calibrated", "none_probability", "confident", "hits",
    }  # fmt: skip
    shares = [hit["probability"] for hit in found["hits"]]
    assert len(shares) == 60  # every image
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + found["none_probability"] == pytest.approx(1, abs=1e-6)
    assert found["confident"] is (shares[0] >= LEAST_CONFIDENT)


def test_the_summary_of_experts_tells_what_was_fitted(run: Run) -> None:
    folder = json.loads(run(QUERY, "--json").stdout)["index"]
    shown = CliRunner().invoke(commands, ["expert", "show", str(Path(folder).with_name("experts"))])
    assert "match      temperature 0.1, stray share 0.03, log-likelihood of none 3" in shown.stdout


def test_filters_make_the_gallery_smaller(run: Run) -> None:
    arguments = (QUERY, "--json", "-k", 100, "--platform", "drone")
    found = json.loads(run(*arguments).stdout)
    shares = [hit["probability"] for hit in found["hits"]]
    assert len(shares) == 20
    assert sum(shares) + found["none_probability"] == pytest.approx(1, abs=1e-6)


def test_the_table_has_a_column_and_a_line(run: Run) -> None:
    done = run(QUERY, "-k", 3)
    shares = [line for line in done.stdout.splitlines() if "imagery/" in line]
    assert len(shares) == 3
    assert all(re.match(r" *\d +\d+\.\d %", line) for line in shares), shares
    assert len(re.findall(r"^none of these: \d+\.\d %$", done.stdout, re.M)) == 1
    assert "none of these" not in run(QUERY, "--csv").stdout.splitlines()[0]
    assert "none of these" in run(QUERY, "--paths").stderr


def test_no_confident_match_is_one_line_on_stderr(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saywhere.match.LEAST_CONFIDENT", 0.999)
    lines = run(QUERY).stderr.splitlines()
    assert [line for line in lines if line.startswith("no confident match: ")] == lines
    assert len(lines) == 1
    monkeypatch.setattr("saywhere.match.LEAST_CONFIDENT", 0.0)
    assert "no confident" not in run(QUERY).stderr
    assert json.loads(run(QUERY, "--json").stdout)["confident"] is True


def test_the_prior_of_none_that_calibrate_was_told_counts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads(run(QUERY, "--json").stdout)["none_probability"]
    even = Certainty(none_share=0.5)
    monkeypatch.setattr("saywhere.commands.search.certainty_of", lambda *_: even)
    after = json.loads(run(QUERY, "--json").stdout)["none_probability"]
    # From 1 to 9 to even: nine times the odds.
    assert after / (1 - after) == pytest.approx(9 * before / (1 - before))


def test_experts_without_the_fit_say_null_and_how_to_get_it(run: Run) -> None:
    done = run(QUERY, "--json", plain=True)
    found = json.loads(done.stdout)
    assert found["none_probability"] is found["confident"] is None
    assert {hit["probability"] for hit in found["hits"]} == {None}
    assert "fit_places_ending_in" in done.stderr
    assert "–" in run(QUERY, plain=True).stdout


def test_photos_have_no_probability(run: Run, small_world: Path) -> None:
    photo = small_world / "imagery/drone/0007_01.jpg"
    done = run("--image", photo, "--json")
    assert json.loads(done.stdout)["none_probability"] is None
    assert "not for photos" in done.stderr


def test_a_mistyped_word_is_put_right_and_told(run: Run) -> None:
    slip = QUERY.replace("building", "buildign")
    meant, found = run(QUERY, "--json"), run(slip, "--json")
    assert json.loads(found.stdout)["hits"] == json.loads(meant.stdout)["hits"]
    assert json.loads(found.stdout)["query"] == slip
    assert f"searched for '{QUERY}'" in found.stderr
    assert "--as-typed" in found.stderr
    assert "searched for" not in meant.stderr


def test_as_typed_searches_for_the_slip(run: Run) -> None:
    slip = QUERY.replace("building", "buildign")
    found, meant = run(slip, "--json", "--as-typed"), run(QUERY, "--json")
    assert "searched for" not in found.stderr
    scores = [[hit["score"] for hit in json.loads(one.stdout)["hits"]] for one in (found, meant)]
    assert scores[0] != scores[1]
