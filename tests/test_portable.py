"""Experts that travel: counted, copied, packed and unpacked, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from test_bundle import make_experts, snapshot

from saywhere import portable
from saywhere.bundle import load_experts, save_experts
from saywhere.errors import ExpertError, InputError, TowerError
from saywhere.expert_set import ExpertSet
from saywhere.manifest import read_manifest
from saywhere.portable import export_archive, export_folder, import_archive
from saywhere.summary import summarise
from saywhere.towers.cache import tower_file
from saywhere.towers.onnxfile import read_onnx
from saywhere.towers.runtime import METADATA_KEY

FINGERPRINTS = {"image": "a" * 32, "text": "b" * 32}


def write_tower(path: Path, fingerprint: str, *, external: bool = False) -> Path:
    """A graph with 2 x 3 + 4 real parameters, and constants that are none."""
    tensors = [
        numpy_helper.from_array(np.ones((2, 3), np.float32), "weight"),
        numpy_helper.from_array(np.ones(4, np.float16), "bias"),
        numpy_helper.from_array(np.asarray(1e-5, np.float32), "epsilon"),
        numpy_helper.from_array(np.arange(9), "positions"),
    ]
    if external:
        tensors[0].data_location = TensorProto.EXTERNAL
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "tower", [shape],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], tensors,
    )  # fmt: skip
    model = helper.make_model(graph)
    metadata = {"fingerprint": fingerprint, "name": "tiny"}
    helper.set_model_props(model, {"other": "x", METADATA_KEY: json.dumps(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_towers(experts: ExpertSet, folder: Path) -> dict[str, Path]:
    """Tower files under the names that the experts' configuration gives them."""
    towers = experts.config.towers
    image, text = (tower_file(config, {}).name for config in (towers.image, towers.text))
    return {
        "image": write_tower(folder / image, FINGERPRINTS["image"]),
        "text": write_tower(folder / text, FINGERPRINTS["text"]),
    }


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache: nothing on this machine helps."""
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Experts as ``train`` leaves them: their towers are links into a cache."""
    experts = make_experts(towers=FINGERPRINTS)
    return save_experts(
        experts, tmp_path / "trained", write_towers(experts, tmp_path / "elsewhere")
    )


def test_parameters_and_metadata_are_read_without_onnx(tmp_path: Path) -> None:
    path = write_tower(tmp_path / "tower.onnx", "f")
    found = read_onnx(path)
    assert found.parameters == 2 * 3 + 4
    assert found.metadata == {"fingerprint": "f", "name": "tiny"}
    packed = onnx.load(str(path)).SerializeToString()
    assert read_onnx(path).parameters == 10
    assert packed == path.read_bytes()


def test_a_damaged_tower_is_one_line(tmp_path: Path) -> None:
    path = write_tower(tmp_path / "tower.onnx", "f")
    content = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(TowerError, match="no whole ONNX file"):
        read_onnx(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:  # whole only where a field of the message happens to end
            onnx.load_from_string(content[:length])
        except DecodeError:
            with pytest.raises(TowerError, match="no whole ONNX file; delete"):
                read_onnx(path)
    rng = np.random.default_rng(0)
    for _ in range(300):  # whatever bytes: an answer or a TowerError
        path.write_bytes(rng.bytes(int(rng.integers(1, 200))))
        with suppress(TowerError):
            read_onnx(path)


def test_weights_beside_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TowerError, match="another file"):
        read_onnx(write_tower(tmp_path / "tower.onnx", "f", external=True))


def test_a_summary_counts_every_part(trained: Path) -> None:
    found = summarise(trained)
    # Heads of test_bundle: features -> 6 -> 4, two members, two experts.
    image, text = (width * 6 + 6 + 6 * 4 + 4 for width in (7, 5))
    assert found.trained == {
        "image_heads": 4 * image,
        "text_heads": 4 * text,
        "logit_scales": 4,
        "platform_classifiers": 3 * 7 + 3 + 3 * 5 + 3,
        "fusion": 2 + 2 + 1,
    }
    assert found.frozen == {"image_tower": 10, "text_tower": 10}
    assert found.statistics == 2 * (4 * (7 + 5) + 7 + 5)
    total = sum(found.trained.values())
    stored = found.statistics + total - found.trained["fusion"]
    experts = load_experts(trained)
    arrays = [expert.arrays() for expert in experts.experts]
    arrays += [c.arrays() for c in (experts.image_classifier, experts.word_classifier) if c]
    assert stored == sum(array.size for part in arrays for array in part.values())
    assert found.trainable_share == total / (total + 20)
    assert found.bytes == sum(len(content) for content in snapshot(trained).values())
    values = found.to_dict()
    assert values["whole"] is values["portable"] is True
    assert values["trainable_share"] == found.trainable_share
    assert [part["members"] for part in values["experts"]] == [2, 2]
    assert values["towers"]["text"]["fingerprint"] == "b" * 32
    assert json.loads(json.dumps(values))["fusion"]["calibrations"]["gated"]["scale"] == [2.5, 3.1]
    text_form = found.to_text()
    assert "match      no probabilities" in text_form
    for part in ("whole, every hash checked", "satellite: 2 members", "gated", "seed 7", "tiny"):
        assert part in text_form


def test_a_summary_survives_provenance_of_any_kind(trained: Path, tmp_path: Path) -> None:
    experts = replace(load_experts(trained), provenance={"data": 7, "versions": None})
    towers = {path.name: path for path in (trained / "towers").iterdir()}
    assert "seed None" in summarise(save_experts(experts, tmp_path / "odd", towers)).to_text()


def test_an_exported_folder_is_equal_and_shares_nothing(trained: Path, tmp_path: Path) -> None:
    assert all(path.stat().st_nlink == 2 for path in (trained / "towers").iterdir())
    out = export_folder(trained, tmp_path / "carried")
    assert snapshot(out) == snapshot(trained)
    assert all(path.stat().st_nlink == 1 for path in out.rglob("*") if path.is_file())
    shutil.rmtree(trained)
    shutil.rmtree(tmp_path / "elsewhere")
    assert summarise(out).portable


def test_towers_taken_out_come_back_from_the_cache(
    trained: Path, tmp_path: Path, cache: Path
) -> None:
    whole = snapshot(trained)
    tower = next((trained / "towers").glob("*MiniLM*"))
    with_versions = tower_file(load_experts(trained).config.towers.text, _versions(trained))
    with_versions.parent.mkdir(parents=True)
    tower.rename(with_versions)
    found = summarise(trained)
    assert not found.portable
    assert "from the cache" in found.to_text()
    out = export_folder(trained, tmp_path / "carried")
    assert summarise(out).portable
    assert len(list((out / "towers").iterdir())) == 2
    assert load_experts(out).hash == read_manifest(trained).hash
    with_versions.unlink()
    with pytest.raises(ExpertError, match="text tower is neither"):
        summarise(trained)
    assert set(whole) - set(snapshot(trained)) == {f"towers/{tower.name}"}


def _versions(folder: Path) -> dict[str, str]:
    from saywhere.towers.cache import build_versions

    found = build_versions(load_experts(folder).config.towers.text)
    assert found is not None
    return found


@pytest.mark.parametrize("pattern", ["satellite.safetensors", "config.toml", "towers/*MiniLM*"])
def test_altered_experts_are_neither_shown_nor_exported(
    trained: Path, tmp_path: Path, pattern: str
) -> None:
    path = next(trained.glob(pattern))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    calls: list[Callable[[], object]] = [
        lambda: summarise(trained),
        lambda: export_folder(trained, tmp_path / "out"),
        lambda: export_archive(trained, tmp_path / "out.zip"),
    ]
    for call in calls:
        with pytest.raises(ExpertError, match="altered"):
            call()
    assert not list(tmp_path.glob("out*"))


def test_towers_of_other_experts_are_refused(tmp_path: Path) -> None:
    experts = make_experts(towers=FINGERPRINTS | {"text": "c" * 32})
    towers = write_towers(experts, tmp_path / "elsewhere")
    with pytest.raises(ExpertError, match="not the text tower"):
        summarise(save_experts(experts, tmp_path / "mixed", towers))


def test_an_archive_is_the_same_for_the_same_experts(trained: Path, tmp_path: Path) -> None:
    one = export_archive(trained, tmp_path / "one.zip")
    copy = export_folder(trained, tmp_path / "copy")
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))
    two = export_archive(copy, tmp_path / "two.zip")
    assert one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert names == sorted(f"experts/{name}" for name in snapshot(trained))


def test_an_archive_comes_back_whole(trained: Path, tmp_path: Path, cache: Path) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    before = snapshot(trained)
    shutil.rmtree(trained)
    out = import_archive(archive, tmp_path / "there" / "experts")
    assert snapshot(out) == before
    assert summarise(out).portable
    assert not cache.exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["experts"]


def test_what_is_there_is_not_replaced_by_accident(trained: Path, tmp_path: Path) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    with pytest.raises(InputError, match="--overwrite"):
        export_archive(trained, archive)
    with pytest.raises(InputError, match="--overwrite"):
        import_archive(archive, trained)
    with pytest.raises(InputError, match="--overwrite"):
        export_folder(trained, trained)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.txt").write_text("mine")
    with pytest.raises(InputError, match="no experts"):
        import_archive(archive, tmp_path / "thesis", overwrite=True)
    before = snapshot(trained)
    import_archive(archive, trained, overwrite=True)
    export_archive(trained, archive, overwrite=True)
    assert snapshot(export_folder(trained, trained, overwrite=True)) == before


Tamper = Callable[[dict[str, bytes]], dict[str, bytes]]


def _rewrite(archive: Path, change: Tamper) -> None:
    with zipfile.ZipFile(archive) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(archive, "w") as out:
        for name, data in change(content).items():
            out.writestr(name, data)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.safetensors",
        "/etc/evil",
        "experts/../../evil",
        "experts/towers/../../evil.onnx",
        "experts/towers/..\\evil.onnx",
        "experts/towers/.hidden.onnx",
        "experts/towers/deep/er.onnx",
        "experts/notes.txt",
        "satellite.safetensors",
        "C:\\evil",
    ],
)
def test_nothing_but_experts_is_unpacked(trained: Path, tmp_path: Path, name: str) -> None:
    archive = export_archive(trained, tmp_path / "in" / "experts.zip")
    _rewrite(archive, lambda content: content | {name: b"evil"})
    with pytest.raises(InputError, match="no file of experts") as caught:
        import_archive(archive, tmp_path / "out" / "experts")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "out").exists()


def test_links_and_repeated_names_are_refused(trained: Path, tmp_path: Path) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("experts/ground.safetensors")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match=r"ground\.safetensors.* not a plain one"):
        import_archive(archive, tmp_path / "out")
    export_archive(trained, archive, overwrite=True)
    with zipfile.ZipFile(archive, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("experts/config.toml", "seed = 1")
    with pytest.raises(InputError, match=r"config\.toml"):
        import_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_made_by_hand_is_taken(trained: Path, tmp_path: Path) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    _rewrite(archive, lambda c: {n.removeprefix("experts/"): data for n, data in c.items()})
    assert snapshot(import_archive(archive, tmp_path / "out")) == snapshot(trained)


def _drop(part: str) -> Tamper:
    return lambda content: {n: data for n, data in content.items() if part not in n}


def _flip(part: str) -> Tamper:
    return lambda content: {
        n: data[:-1] + bytes([data[-1] ^ 1]) if part in n else data for n, data in content.items()
    }


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (_drop("experts.json"), "holds 0 files experts.json"),
        (_drop("satellite"), "satellite.safetensors: is missing"),
        (_drop("MiniLM"), "text tower"),
        (_flip("satellite"), "satellite.safetensors: was altered"),
        (_flip("MiniLM"), "was altered"),
        (_flip("experts.json"), "experts.json"),
    ],
)
def test_incomplete_and_altered_archives_leave_nothing(
    trained: Path, tmp_path: Path, change: Tamper, cause: str
) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    _rewrite(archive, change)
    with pytest.raises((ExpertError, InputError)) as caught:
        import_archive(archive, tmp_path / "out")
    message = str(caught.value)
    assert cause in message
    assert str(archive) in message
    assert ".saywhere." not in message  # no temporary name
    assert not list(tmp_path.glob("out*")) + list(tmp_path.glob(".saywhere*"))


def test_too_much_is_refused_before_a_byte_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    size = sum(len(content) for content in snapshot(trained).values())
    with pytest.raises(InputError, match="--max-gb"):
        import_archive(archive, tmp_path / "out", most_bytes=size - 1)
    monkeypatch.setattr(portable, "_MOST_LOADED", 1000)
    with pytest.raises(InputError, match="beside the towers"):
        import_archive(archive, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(9, 9, size - 1)
    )
    with pytest.raises(InputError, match="are free"):
        import_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_that_lies_is_noticed(trained: Path, tmp_path: Path) -> None:
    """A bomb says it is small: what it declares is all that is read, and then its hash is wrong."""
    archive = tmp_path / "bomb.zip"
    export_archive(trained, archive)
    _rewrite(archive, lambda content: content | {"experts/ground.safetensors": bytes(10_000)})
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo("experts/ground.safetensors")
    content = archive.read_bytes()
    true = (10_000).to_bytes(4, "little")
    central = content.rindex(b"PK\x01\x02", 0, content.rindex(b"experts/ground.safetensors"))
    assert content[central + 24 : central + 28] == true
    assert entry.file_size == 10_000
    archive.write_bytes(
        content[: central + 24] + (9).to_bytes(4, "little") + content[central + 28 :]
    )
    with pytest.raises(InputError, match="no whole zip archive"):
        import_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_archive_is_one_line(trained: Path, tmp_path: Path) -> None:
    archive = export_archive(trained, tmp_path / "experts.zip")
    content = archive.read_bytes()
    rng = np.random.default_rng(0)
    cases = [b"", b"PK", content[:-30], content[: len(content) // 2], rng.bytes(500)]
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), 12):
            damaged[position] ^= int(rng.integers(1, 256))
        cases.append(bytes(damaged))
    for case in cases:
        archive.write_bytes(case)
        with pytest.raises((InputError, ExpertError)) as caught:
            import_archive(archive, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="cannot be read"):
        import_archive(tmp_path / "nowhere.zip", tmp_path / "out")


def test_a_full_disk_leaves_no_archive(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    archive = export_archive(trained, tmp_path / "experts.zip")
    digest = hashlib.sha256(archive.read_bytes()).digest()
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(InputError, match="No space left"):
        export_archive(trained, archive, overwrite=True)
    with pytest.raises(InputError, match="No space left"):
        import_archive(archive, tmp_path / "out")
    assert hashlib.sha256(archive.read_bytes()).digest() == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "experts.zip",
        "trained",
    ]
