"""The tokenizer of a text tower, and whether it is that model's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.config import TextTowerConfig
from saywhere.errors import TowerError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerFast

# Rows of an embedding table that no token uses: tables are padded to round numbers.
_SPARE_ROWS = 1024
_SPECIAL = ("pad", "bos", "eos")


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A fast tokenizer as JSON.

    Attributes:
        pad_id, pad_token: what fills short texts; without a padding token any id serves, masked.
    """

    json: str
    pad_id: int
    pad_token: str


def read_tokenizer(source: Path, module: nn.Module) -> TokenizerFile:
    """The tokenizer in ``source``, checked against the model it is to feed.

    Raises:
        TowerError: missing, not fast, or another model's.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source, use_fast=True)
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # transformers raises OSError, ValueError and hub errors alike
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TowerError(
            f"{source}: its tokenizer cannot be read ({cause}); "
            "it needs a tokenizer.json (a fast tokenizer)"
        ) from None
    if backend.get_vocab_size() <= len(tokenizer.all_special_ids):
        # transformers makes up an empty tokenizer where the files are missing.
        raise TowerError(f"{source}: has no tokenizer (no words in it); add its tokenizer.json")
    _check_owner(source, tokenizer, vocabulary_rows(module), module.config)
    backend.no_truncation()
    backend.no_padding()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return TokenizerFile(backend.to_str(), pad_id, tokenizer.pad_token or "")


def _check_owner(
    source: Path, tokenizer: PreTrainedTokenizerFast, rows: int, settings: object
) -> None:
    """A tokenizer of another model gives ids that mean something else, without any error."""
    highest = max(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True).values())
    causes = []
    if highest >= rows:
        causes.append(f"its ids reach {highest}, the model knows {rows}")
    elif rows - highest - 1 > max(_SPARE_ROWS, rows // 10):
        causes.append(f"it has {highest + 1} tokens, the model {rows}")
    for name in _SPECIAL:
        own = getattr(tokenizer, f"{name}_token_id", None)
        wanted = getattr(settings, f"{name}_token_id", None)
        if own is not None and isinstance(wanted, int) and own != wanted:
            causes.append(f"its {name} id is {own}, the model's {wanted}")
    if causes:
        raise TowerError(
            f"{source}: the tokenizer is another model's ({'; '.join(causes)}); "
            "fetch tokenizer.json and config.json from the same repository as the weights"
        )


def vocabulary_rows(module: nn.Module) -> int:
    """Tokens that the embedding table of a Hugging Face model knows."""
    settings: Any = module.config
    return int(settings.vocab_size)


def check_length(module: nn.Module, config: TextTowerConfig) -> None:
    """Positions beyond a model's table would fail on the first long text, months later.

    Raises:
        TowerError: more tokens than positions.
    """
    table = getattr(getattr(module, "embeddings", None), "position_embeddings", None)
    if table is None:
        return  # relative or rotary positions have no end
    reserved = table.padding_idx + 1 if table.padding_idx is not None else 0  # RoBERTa's kin
    if config.max_tokens > table.num_embeddings - reserved:
        raise TowerError(
            f"text tower {config.name!r} takes {table.num_embeddings - reserved} tokens at most, "
            f"not {config.max_tokens}; lower towers.text.max_tokens"
        )
