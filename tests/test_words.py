"""Static word vectors beside the sentence tower."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from saywhere.config import TextTowerConfig
from saywhere.errors import TowerError
from saywhere.towers import text_tower
from saywhere.towers.packages import package_folder
from saywhere.towers.words import word_table


def test_static_words_follow_the_sentence(tower_cache: Path) -> None:
    """Against WordLlama's own pieces, summed by hand over this tower's tokens."""
    plain = text_tower(TextTowerConfig())
    both = text_tower(TextTowerConfig(words="wordllama"))
    texts = ["A red roof by the parking lot.", "greenhouses"]
    found = both.encode(texts)
    assert found.shape == (2, 384 + 256)
    np.testing.assert_allclose(found[:, :384], plain.encode(texts), atol=1e-6)
    assert not both.encode(["…"])[:, 384:].any()
    folder = package_folder("wordllama")
    [vectors] = load_file(folder / "weights/l2_supercat_256.safetensors").values()
    pieces = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    own = Tokenizer.from_str(both.metadata["tokenizer"])
    for row, text in enumerate(texts):
        tokens = own.encode(text, add_special_tokens=False).tokens
        tokens = [token for token in tokens if token not in ("a", "by", "the", ".", "…")]
        each = [
            vectors[pieces.encode(token.removeprefix("##"), add_special_tokens=False).ids]
            for token in tokens
        ]
        total = sum(np.asarray(part, np.float32).mean(0) for part in each)
        np.testing.assert_allclose(found[row, 384:], total / np.linalg.norm(total), atol=1e-6)


def test_static_words_take_any_tokenizer_and_pinned_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"[CLS]": 0, "roof": 1, "##s": 2, "▁roof": 3, "Ġroof": 4, "▁": 5, "the": 6, "##,": 7}
    tokenizer = Tokenizer(WordLevel(known, unk_token="[CLS]"))
    tokenizer.add_special_tokens(["[CLS]"])
    table = word_table(tokenizer, 10)
    assert table.shape == (10, 256)
    assert not table[[0, 5, 6, 7, 8, 9]].any()  # special, marks, function words, spare rows
    np.testing.assert_array_equal(table[1], table[3])
    np.testing.assert_array_equal(table[1], table[4])
    assert np.abs(table[1] - table[2]).max() > 0.01
    altered = tmp_path / "wordllama"
    shutil.copytree(package_folder("wordllama") / "weights", altered / "weights")
    (altered / "weights" / "l2_supercat_256.safetensors").write_bytes(b"other")
    monkeypatch.setattr("saywhere.towers.words.package_folder", lambda _name: altered)
    with pytest.raises(TowerError, match=r'SHA-256 is .*; .*set towers\.text\.words = ""'):
        word_table(tokenizer, 10)
