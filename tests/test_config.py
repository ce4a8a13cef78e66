"""Configuration: nothing unknown gets in, everything comes back from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from saywhere import config as config_module
from saywhere.config import Config, dump_config, load_config, load_resolved
from saywhere.errors import ConfigError
from saywhere.types import Platform
from saywhere.views import FIXED_VIEWS


def tables(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Dotted names of every table, the root as ""."""
    found = [prefix]
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += tables(kind, f"{prefix}{name}.")
    return found


def through_file(config: Config, folder: Path) -> Config:
    path = folder / "config.toml"
    path.write_text(dump_config(config), "utf-8")
    return load_config(path=path)


def message(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path=path, overrides=overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_default_is_the_small_preset() -> None:
    found = load_config()
    assert found.preset == "small"
    text = found.towers.text.model_copy(update={"words": ""})
    image = found.towers.image.model_copy(update={"tuned": "", "tuned_sha256": None})
    towers = found.towers.model_copy(update={"text": text, "image": image})
    train = found.train.model_copy(update={"canonical": Config().train.canonical})
    assert found.model_copy(update={"towers": towers, "train": train}) == Config()
    assert (found.towers.text.words, found.train.canonical.weight) == ("wordllama", 1.0)
    assert found.towers.image.tuned == "shipped"


def test_a_written_configuration_stays_what_it_was(tmp_path: Path) -> None:
    """What a preset sets since then does not change experts that were trained before."""
    values = tomllib.loads(dump_config(load_config()))
    del values["train"]["canonical"], values["towers"]["text"]["words"]
    del values["towers"]["image"]["tuned"], values["towers"]["image"]["tuned_sha256"]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(values), "utf-8")
    assert load_resolved(tmp_path / "config.toml") == Config()
    assert load_config(path=tmp_path / "config.toml") == load_config()


@pytest.mark.parametrize("table", tables())
def test_unknown_keys_are_refused_in_every_table(table: str) -> None:
    text = message(f"{table}bogus=1")
    assert f"{table}bogus: there is no such setting" in text
    model: Any = Config()
    for part in table.split(".")[:-1]:
        model = getattr(model, part)
    assert ", ".join(type(model).model_fields) in text


def test_unknown_keys_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[train.stage1]\nepoch = 3\n")
    assert "train.stage1.epoch: there is no such setting" in message(path=path)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.stage1.epochs=-1", "train.stage1.epochs", "-1"),
        ("train.stage1.epochs=many", "train.stage1.epochs", "'many'"),
        ("train.stage1.learning_rate=nan", "train.stage1.learning_rate", "nan"),
        ("train.stage1.learning_rate=inf", "train.stage1.learning_rate", "inf"),
        ("fusion.mode=magic", "fusion.mode", "'magic'"),
        ("text.remove_orientation=['sky']", "text.remove_orientation.0", "'sky'"),
        ("views.test=['full', 'bogus']", "views.test", "'bogus'"),
        ("views.test=[]", "views.test", "[]"),
        ("towers=5", "towers", "5"),
        ("seed.x=3", "seed", "{'x': 3}"),
        ("threads=0", "threads", "0"),
        ("head={dimension=3}", "head.dimension", "3"),
    ],
)
def test_bad_values_are_named_with_their_key(override: str, key: str, value: str) -> None:
    text = message(override)
    assert f"{key}: " in text
    assert f"(got {value})" in text or value in text


def test_all_problems_are_named_at_once_and_long_values_are_cut() -> None:
    text = message("threads=0", "head.dimension=1", "fusion.mode=" + "x" * 5000)
    assert all(key in text for key in ("threads", "head.dimension", "fusion.mode"))
    assert len(text) < 600


def test_unknown_views_list_the_known_ones() -> None:
    assert ", ".join(FIXED_VIEWS) in message("views.test=['bogus']")


@pytest.mark.parametrize(
    "override", ["preset=nope", "preset=3", "preset=[1]", "preset={a=1}", "preset="]
)
def test_unknown_presets_are_refused_wherever_they_stand(override: str) -> None:
    assert "choose one of: small" in message(override)
    with pytest.raises(ConfigError, match="preset 'nope' is unknown"):
        load_config("nope")


def test_overrides_win_over_the_file_and_the_file_over_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = {"small": {}, "big": {"head": {"hidden": 1, "dimension": 64}, "seed": 5}}
    monkeypatch.setattr(config_module, "PRESETS", presets)
    path = tmp_path / "c.toml"
    path.write_text('preset = "big"\n[head]\nhidden = 2\n[train.stage1]\nepochs = 7\n')
    found = load_config(path=path, overrides=["train.stage1.epochs=8", "head.image_dropout=0.1"])
    assert (found.preset, found.seed, found.train.stage1.epochs) == ("big", 5, 8)
    assert (found.head.hidden, found.head.dimension, found.head.image_dropout) == (2, 64, 0.1)
    assert found.train.stage2 == Config().train.stage2
    assert presets["big"] == {"head": {"hidden": 1, "dimension": 64}, "seed": 5}
    assert through_file(found, tmp_path) == found


def test_one_value_given_leaves_its_neighbours_at_their_defaults(tmp_path: Path) -> None:
    """A table that is given in part must not fall back to another table's defaults."""

    def leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, (*above, key))
            else:
                yield (*above, key)

    whole = tomllib.loads(dump_config(load_config()))
    paths = list(leaves(whole))
    assert ("tuning", "stage2", "epochs") in paths
    for path in paths:
        one: Any = whole
        for key in path:
            one = one[key]
        for key in reversed(path):
            one = {key: one}
        (tmp_path / "one.toml").write_text(tomli_w.dumps(one), "utf-8")
        assert load_config(path=tmp_path / "one.toml") == load_config(), path


def test_overrides_parse_toml_values_and_bare_words() -> None:
    found = load_config(
        overrides=[
            "train.stage1.learning_rate=2e-4",
            "train.refit=false",
            "views.test=['full', 'flip']",
            "text.remove_orientation=['drone']",
            "towers.image.name=test_vit",
            "towers.image.weights = /a b/c=d.safetensors ",
            'fusion.mode="mean"',
            "train.mining={top_k=4, per_anchor=1}",
        ]
    )
    assert found.train.stage1.learning_rate == 2e-4
    assert found.train.refit is False
    assert found.views.test == ("full", "flip")
    assert found.text.remove_orientation == (Platform.DRONE,)
    assert found.towers.image.name == "test_vit"
    assert found.towers.image.weights == "/a b/c=d.safetensors"
    assert found.fusion.mode == "mean"
    assert (found.train.mining.top_k, found.train.mining.refresh) == (4, 5)


def test_an_override_cannot_smuggle_in_other_keys() -> None:
    assert "seed" in message("seed=1\nthreads=3")


@pytest.mark.parametrize("text", ["", "=3", "  =3", "seed", "seed:3"])
def test_overrides_without_a_key_or_value_are_refused(text: str) -> None:
    assert "section.key=value" in message(text)


def test_the_empty_string_is_none_and_a_digit_is_text() -> None:
    assert load_config(overrides=["train.fit_places_ending_in="]).train.fit_places_ending_in is None
    assert load_config(overrides=["train.fit_places_ending_in=7"]).train.fit_places_ending_in == "7"
    assert "fit_places_ending_in" in message("train.fit_places_ending_in=true")
    assert load_config(overrides=["towers.image.sha256="]).towers.image.sha256 is None


def test_none_survives_the_round_trip(tmp_path: Path) -> None:
    changed = load_config(overrides=["train.fit_places_ending_in=", "towers.text.sha256="])
    assert through_file(changed, tmp_path) == changed
    assert through_file(Config(), tmp_path) == Config()
    assert tomllib.loads(dump_config(Config())).keys() == Config.model_fields.keys()


@given(
    seed=st.integers(-(2**62), 2**62),
    rate=st.floats(1e-9, 10),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    views=st.lists(st.sampled_from(sorted(FIXED_VIEWS)), min_size=1, max_size=4),
    platforms=st.lists(st.sampled_from(Platform), unique=True),
    ending=st.none() | st.text("0123456789", min_size=1, max_size=2),
)
def test_any_configuration_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rate: float,
    name: str,
    views: list[str],
    platforms: list[Platform],
    ending: str | None,
) -> None:
    changed = Config.model_validate(
        {
            "seed": seed,
            "towers": {"image": {"name": name}},
            "views": {"test": views},
            "text": {"remove_orientation": platforms},
            "train": {"fit_places_ending_in": ending, "stage1": {"learning_rate": rate}},
        }
    )
    assert Config.model_validate(tomllib.loads(dump_config(changed))) == changed


def test_unreadable_files_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("seed = = 3\n")
    (tmp_path / "latin.toml").write_bytes('preset = "Straße"'.encode("latin-1"))
    for name in ("missing.toml", "bad.toml", "latin.toml", "."):
        text = message(path=tmp_path / name)
        assert text.startswith(f"{tmp_path / name}: ")
        assert "; " in text


def test_configurations_are_frozen() -> None:
    found = load_config()
    with pytest.raises(ValidationError, match="frozen"):
        found.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        found.train.stage1.epochs = 3  # type: ignore[misc]
