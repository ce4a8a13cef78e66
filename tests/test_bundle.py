"""The folder of experts: whole or not at all, and nothing in it altered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saywhere import bundle
from saywhere.bundle import check_target, load_experts, save_experts
from saywhere.classify import fit_classifier
from saywhere.config import Config, load_config
from saywhere.errors import ExpertError, InputError
from saywhere.expert import Expert, Head, Member
from saywhere.expert_set import ExpertSet
from saywhere.files import hash_text
from saywhere.fusion import Calibration, neutral
from saywhere.manifest import check_towers
from saywhere.sharpness import Sharpness
from saywhere.types import PLATFORMS, FloatArray, Platform

FILES = [
    "experts.json",
    "config.toml",
    "platforms.safetensors",
    "satellite.safetensors",
    "generalist.safetensors",
]


def head(features: int, rng: np.random.Generator) -> Head:
    shapes = [(features,), (features,), (6, features), (6,), (4, 6), (4,)]
    return Head(*(rng.uniform(0.5, 1, shape).astype(np.float32) for shape in shapes))


def expert(platform: Platform | None, seed: int) -> Expert:
    rng = np.random.default_rng(seed)
    return Expert(platform, tuple(Member(head(7, rng), head(5, rng), 14.0) for _ in range(2)))


def make_experts(seed: int = 0, **changes: Any) -> ExpertSet:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((30, 7)).astype(np.float32)
    codes = np.arange(30) % 2  # never a ground image: a bias of -inf must survive
    found = ExpertSet(
        config=load_config(overrides=["seed=7", "fusion.mode=gated", "text.clean_queries=true"]),
        experts=(expert(Platform.SATELLITE, seed), expert(None, seed + 1)),
        calibrations={"gated": Calibration((2.5, 3.1), (0.1, -1 / 3), 0.7)},
        image_classifier=fit_classifier(rows, codes, c=1.0),
        word_classifier=fit_classifier(rows[:, :5], codes, c=1.0),
        towers={"image": "i" * 8, "text": "t" * 8},
        provenance={"seed": 7, "words": "Ünïcode", "nested": {"seconds": 1.5, "commit": None}},
    )
    return replace(found, **changes)


@pytest.fixture
def towers(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "cache"
    folder.mkdir()
    paths = {side: folder / f"{side}.onnx" for side in ("image", "text")}
    for side, path in paths.items():
        path.write_bytes(f"{side} tower".encode() * 50)
    return paths


@pytest.fixture
def saved(tmp_path: Path, towers: dict[str, Path]) -> Path:
    return save_experts(make_experts(), tmp_path / "experts", towers)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_round_trip(saved: Path) -> None:
    experts, back = make_experts(), load_experts(saved)
    assert back.hash == experts.hash
    assert back.folder == saved
    assert back.config == experts.config
    assert back.platforms == (Platform.SATELLITE, None)
    assert back.calibrations == experts.calibrations
    assert back.towers == experts.towers
    assert back.provenance == experts.provenance
    for one, two in zip(back.experts, experts.experts, strict=True):
        assert one.arrays().keys() == two.arrays().keys()
        assert all(np.array_equal(a, two.arrays()[name]) for name, a in one.arrays().items())
    for one_c, two_c in (
        (back.image_classifier, experts.image_classifier),
        (back.word_classifier, experts.word_classifier),
    ):
        assert one_c is not None
        assert two_c is not None
        assert all(np.array_equal(a, two_c.arrays()[name]) for name, a in one_c.arrays().items())
    assert sorted(snapshot(saved)) == sorted([*FILES, "towers/image.onnx", "towers/text.onnx"])


def test_sharpness_is_kept_and_changes_no_hash(saved: Path, tmp_path: Path) -> None:
    sharpness = {"gated": Sharpness(0.1 + 0.2, 1 / 30, -1 / 3)}
    fitted = make_experts(sharpness=sharpness)
    assert fitted.hash == make_experts().hash
    back = load_experts(save_experts(fitted, tmp_path / "fitted", {}))
    assert back.sharpness == sharpness
    assert load_experts(saved).sharpness == {}


def test_experts_from_before_sharpness_was_fitted_are_read(saved: Path) -> None:
    path = saved / "experts.json"
    values = json.loads(path.read_text())
    del values["sharpness"], values["seal"]
    values["seal"] = hash_text(json.dumps(values, sort_keys=True))
    path.write_text(json.dumps(values), "utf-8")
    assert load_experts(saved).sharpness == {}


def test_without_classifiers_calibrations_or_towers(tmp_path: Path) -> None:
    bare = make_experts(image_classifier=None, word_classifier=None, calibrations={})
    back = load_experts(save_experts(bare, tmp_path / "bare", {}))
    assert back.image_classifier is back.word_classifier is None
    assert back.hash == bare.hash
    assert back.calibration() == neutral(2)


@pytest.mark.parametrize("override", ["train.fit_places_ending_in=''", "towers.image.sha256=''"])
def test_settings_that_are_none_stay_none(tmp_path: Path, override: str) -> None:
    config = load_config(overrides=[override])
    back = load_experts(save_experts(make_experts(config=config), tmp_path / "none", {}))
    assert back.config == config


@pytest.mark.parametrize("name", FILES)
def test_every_altered_byte_is_noticed(saved: Path, name: str) -> None:
    path = saved / name
    content = path.read_bytes()
    for position in np.linspace(0, len(content) - 1, 40, dtype=int):
        altered = bytearray(content)
        altered[position] ^= 1
        path.write_bytes(bytes(altered))
        if name == "experts.json" and _same_json(altered, content):
            continue
        with pytest.raises(ExpertError) as caught:
            load_experts(saved)
        assert str(saved) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(content)
    load_experts(saved)


def _same_json(one: bytes | bytearray, two: bytes) -> bool:
    """White space between values may change; nothing is said by it."""
    try:
        return bool(json.loads(one) == json.loads(two))
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_needed(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ExpertError, match="missing"):
        load_experts(saved)
    (saved / name).mkdir()
    with pytest.raises(ExpertError):
        load_experts(saved)


def test_no_folder_is_no_experts(tmp_path: Path) -> None:
    with pytest.raises(ExpertError, match="saywhere train DATA --out"):
        load_experts(tmp_path / "nothing")
    with pytest.raises(ExpertError, match=r"experts\.json"):
        load_experts(Path(__file__))


def test_towers_are_checked_by_size_when_loaded_and_by_byte_on_demand(saved: Path) -> None:
    path = saved / "towers/image.onnx"
    content = path.read_bytes()
    path.unlink()  # it shares its bytes with the cache
    path.write_bytes(b"X" + content[1:])
    load_experts(saved)
    with pytest.raises(ExpertError, match=r"image\.onnx: was altered"):
        check_towers(saved)
    path.write_bytes(content[:-1])
    for check in (load_experts, check_towers):
        with pytest.raises(ExpertError, match="not the tower"):
            check(saved)
    path.write_bytes(content)
    check_towers(saved)


def test_towers_may_be_taken_out_but_none_put_in(saved: Path) -> None:
    shutil.rmtree(saved / "towers")
    load_experts(saved)
    check_towers(saved)
    (saved / "towers").mkdir()
    (saved / "towers/other.onnx").write_bytes(b"tower")
    with pytest.raises(ExpertError, match="not the tower"):
        load_experts(saved)


def test_towers_are_copied_where_they_cannot_be_linked(
    tmp_path: Path, towers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = save_experts(make_experts(), tmp_path / "experts", towers)
    assert (folder / "towers/text.onnx").read_bytes() == towers["text"].read_bytes()
    check_towers(folder)


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter the manifest the way somebody with bad intentions would."""
    path = folder / "experts.json"
    values = json.loads(path.read_text("utf-8"))
    del values["seal"]
    change(values)
    values["seal"] = hash_text(json.dumps(values, sort_keys=True))
    path.write_text(json.dumps(values), "utf-8")


def test_names_cannot_lead_out_of_the_folder(saved: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    shutil.copyfile(saved / "satellite.safetensors", outside)

    def names(values: dict[str, Any], key: str, name: str) -> None:
        values[key][name] = {"size": 1, "sha256": ""} if key == "tower_files" else "0" * 64

    original = (saved / "experts.json").read_bytes()
    for key in ("files", "tower_files"):
        for name in ("../outside.safetensors", str(outside), "..", "../t.onnx", "a/b", "."):
            (saved / "experts.json").write_bytes(original)
            reseal(saved, lambda values, key=key, name=name: names(values, key, name))  # type: ignore[misc]
            with pytest.raises(ExpertError, match="names other files"):
                load_experts(saved)
    for wrong in (["../outside"], ["satellite", "satellite"], ["balloon"], ["satellite"], []):
        (saved / "experts.json").write_bytes(original)
        reseal(saved, lambda values, wrong=wrong: values.update(experts=wrong))  # type: ignore[misc]
        with pytest.raises(ExpertError, match="names other files"):
            load_experts(saved)


def test_a_link_in_the_folder_is_held_to_the_hash(saved: Path, tmp_path: Path) -> None:
    """Caches of model hubs are folders of links; what they lead to must be what was saved."""
    inside, moved = saved / "satellite.safetensors", tmp_path / "blob"
    inside.rename(moved)
    inside.symlink_to(moved)
    load_experts(saved)
    inside.unlink()
    inside.symlink_to("/etc/hostname")
    with pytest.raises(ExpertError, match=r"was altered|is missing"):
        load_experts(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99, this version reads 1; train anew or install the version"),
        ({"format": "2"}, "format '2'"),
        ({"files": []}, "does not hold together"),
        ({"surplus": 1}, "does not hold together"),
        ({"hash": "0" * 64}, "by another version"),
        ({"towers": {"image": "another", "text": "towers"}}, "by another version"),
        (
            {"calibrations": {"gated": {"scale": [1], "offset": [1]}}},
            "names other files or experts",
        ),
        (
            {"calibrations": {"gated": {"scale": [-1, 1], "offset": [1, 1]}}},
            "does not hold together",
        ),
        ({"sharpness": {"gated": {"temperature": 0}}}, "does not hold together"),
        ({"calibrations": {"odd": {"scale": [1, 1], "offset": [1, 1]}}}, "does not hold together"),
    ],
)
def test_manifests_that_do_not_hold_together(
    saved: Path, change: dict[str, Any], message: str
) -> None:
    reseal(saved, lambda values: values.update(change))
    with pytest.raises(ExpertError, match=message):
        load_experts(saved)


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 100_000, '{"format": 2}', "\xff\xfe"])
def test_manifests_that_are_none(saved: Path, content: str) -> None:
    (saved / "experts.json").write_text(content, "latin-1")
    with pytest.raises(ExpertError, match=r"experts\.json: "):
        load_experts(saved)


def test_foreign_folders_are_never_touched(tmp_path: Path, towers: dict[str, Path]) -> None:
    folder = tmp_path / "photos"
    (folder / "towers").mkdir(parents=True)
    (folder / "towers/eiffel.jpg").write_bytes(b"jpeg")
    before = snapshot(folder)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds no experts; choose another --out"):
            save_experts(make_experts(), folder, towers, overwrite=overwrite)
    file = tmp_path / "file"
    file.write_text("words")
    with pytest.raises(InputError, match="holds no experts"):
        save_experts(make_experts(), file, towers, overwrite=True)
    assert snapshot(folder) == before
    assert file.read_text() == "words"


@pytest.mark.parametrize("name", ["notes.txt", "towers/notes.txt", "mine/report.md", "old.onnx"])
def test_overwriting_would_lose_what_somebody_put_there(
    saved: Path, towers: dict[str, Path], name: str
) -> None:
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).write_text("weeks of work")
    before = snapshot(saved)
    with pytest.raises(InputError, match="would be lost"):
        save_experts(make_experts(1), saved, towers, overwrite=True)
    assert snapshot(saved) == before


def test_overwrite_replaces_everything(saved: Path, towers: dict[str, Path]) -> None:
    others = make_experts(5, experts=(expert(None, 9),), calibrations={})
    with pytest.raises(InputError, match="add --overwrite"):
        save_experts(others, saved, towers)
    save_experts(others, saved, {"text": towers["text"]}, overwrite=True)
    assert load_experts(saved).hash == others.hash
    assert "satellite.safetensors" not in snapshot(saved)
    assert "towers/image.onnx" not in snapshot(saved)
    assert all(path.is_file() for path in towers.values())
    assert sorted(path.name for path in saved.parent.iterdir()) == ["cache", "experts"]


def test_an_empty_folder_and_a_link_to_one_are_filled(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    check_target(link, overwrite=False)
    save_experts(make_experts(), link, {})
    assert link.is_symlink()
    assert load_experts(real).hash == load_experts(link).hash == make_experts().hash


@pytest.mark.parametrize("step", ["write_manifest", "_link_or_copy", "hash_file"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_midway_leaves_the_old_experts(
    saved: Path,
    towers: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
) -> None:
    before = snapshot(saved)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bundle, step, fail)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        save_experts(make_experts(1), saved, towers, overwrite=True)
    assert snapshot(saved) == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["cache", "experts"]


def test_a_failure_while_swapping_puts_the_old_experts_back(
    saved: Path, towers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = snapshot(saved), Path.replace
    failed: list[Path] = []

    def fail_once(self: Path, target: Path) -> Path:
        if target == saved and not failed:
            failed.append(target)
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(bundle, "exchange", lambda *_: False)  # a file system that cannot
    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(InputError, match="Input/output error"):
        save_experts(make_experts(1), saved, towers, overwrite=True)
    assert failed
    assert snapshot(saved) == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["cache", "experts"]


DIE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_bundle import make_experts
from saywhere import bundle
moment, exchange = sys.argv[2], bundle.exchange
def die(*paths):
    done = moment == "after" and exchange(*paths)
    os.kill(os.getpid(), signal.SIGKILL)
bundle.exchange = die
bundle.save_experts(make_experts(1), Path(sys.argv[3]), {}, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_the_swap_there_are_experts(saved: Path, moment: str) -> None:
    arguments = [str(Path(__file__).parent), moment, str(saved)]
    done = subprocess.run([sys.executable, "-c", DIE, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    expected = make_experts(1 if moment == "after" else 0)
    assert load_experts(saved).hash == expected.hash
    assert len(list(saved.parent.glob(".saywhere.*.part"))) == 1
    save_experts(make_experts(2), saved, {}, overwrite=True)
    assert load_experts(saved).hash == make_experts(2).hash
    assert sorted(path.name for path in saved.parent.iterdir()) == ["cache", "experts"]


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_experts(make_experts(), file / "experts", {})


def changed_head(experts: ExpertSet, side: str, name: str) -> ExpertSet:
    first, rest = experts.experts[0], experts.experts[1:]
    old = getattr(first.members[1], side)
    array: FloatArray = getattr(old, name).copy()
    array.flat[-1] += 1
    member = replace(first.members[1], **{side: replace(old, **{name: array})})
    return replace(experts, experts=(replace(first, members=(first.members[0], member)), *rest))


def test_the_hash_names_the_vectors_and_nothing_else() -> None:
    base = make_experts()
    config = base.config
    same = [
        replace(base, calibrations={"gated": neutral(2)}),
        replace(base, provenance={}),
        replace(base, word_classifier=None),
        replace(base, folder=Path("somewhere")),
        replace(base, config=config.model_copy(update={"seed": 8, "threads": 1})),
        base.with_mode("gated"),
    ]
    assert {experts.hash for experts in same} == {base.hash}
    views = config.views.model_copy(update={"test": ("full",)})
    different = [
        base,
        base.with_mode("own"),
        base.with_mode("mean"),
        replace(base, config=config.model_copy(update={"views": views})),
        replace(base, config=_with_size(config, 256)),
        replace(base, image_classifier=None),
        replace(base, image_classifier=make_experts(3).image_classifier),
        replace(base, towers={"image": "another", "text": "t" * 8}),
        replace(base, experts=base.experts[:1]),
        replace(base, experts=(replace(base.experts[0], platform=PLATFORMS[1]), base.experts[1])),
        *[changed_head(base, "image", name) for name in ("mean", "std", "weight1", "weight2")],
        changed_head(base, "text", "bias2"),
    ]
    assert len({experts.hash for experts in different}) == len(different)


def _with_size(config: Config, size: int) -> Config:
    image = config.towers.image.model_copy(update={"size": size})
    towers = config.towers.model_copy(update={"image": image})
    return config.model_copy(update={"towers": towers})


def test_calibration_of_a_mode() -> None:
    experts = make_experts()
    assert experts.calibration() == experts.calibrations["gated"]
    assert experts.calibration("mean") == neutral(2)
    assert experts.with_mode("own").calibration() == neutral(2)
