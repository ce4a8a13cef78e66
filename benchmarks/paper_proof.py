"""The paper's towers at full size without their weights: built, saved, loaded, exported, compared.

    python benchmarks/paper_proof.py --work /tmp/proof [--preset paper] [--sides image text]

For each tower, every step in a process of its own, so that time and peak memory are the step's:
``write``  the library's own model with random weights, its state dict under the published names
           (OpenCLIP's for the image tower; a pickle for BGE-M3), and its own output;
``load``   our strict loading, the pickle by our conversion, and our wrapper's output;
``export`` our ONNX file in the preset's precision, and its output through ONNX Runtime.
Needs about 13 GB of memory and 8 GB of disk for ``paper``; minutes on two cores. Fails where our
wrapper is further than 1e-5 from the library's own numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saywhere.config import Config, load_config
from saywhere.files import hash_file

if TYPE_CHECKING:
    from torch import Tensor

# BGE-M3's published config.json.
_BGE_M3 = {
    "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24,
    "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 8194,
    "type_vocab_size": 1, "layer_norm_eps": 1e-5, "architectures": ["XLMRobertaModel"],
}  # fmt: skip
_TEXTS = ("a red brick church by a pond", "w7 w88 w999 w12345 w200000", "two rows of parked cars")
_BOUND = 1e-5


def main() -> None:
    """Run the steps, each as a process, and print a table."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ["SAYWHERE_CACHE"] = str(options.work / "cache")
    if options.step:
        print(json.dumps(_STEPS[options.step](options.work, _config(options), options.sides[0])))
        return
    print("| tower | step | seconds | peak GB | what |\n|---|---|---|---|---|")
    for side in options.sides:
        for step in _STEPS:
            command = [sys.executable, __file__, "--work", str(options.work), "--sides", side]
            command += ["--preset", options.preset, "--step", step]
            started = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                sys.exit(f"{side} {step}: failed, see above")
            found = json.loads(done.stdout.splitlines()[-1])
            seconds = time.perf_counter() - started
            peak = found.pop("peak")
            what = ", ".join(f"{key} {value}" for key, value in found.items())
            print(f"| {side} | {step} | {seconds:.0f} | {peak:.1f} | {what} |", flush=True)


def _write(work: Path, config: Config, side: str) -> dict[str, Any]:
    started = time.perf_counter()
    folder = work / side
    folder.mkdir(exist_ok=True)
    found = _write_image(folder, config) if side == "image" else _write_text(folder)
    return {"built and saved in": f"{time.perf_counter() - started:.0f} s", **found, **_peak()}


def _write_image(folder: Path, config: Config) -> dict[str, Any]:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(11)
    module = timm.create_model(config.towers.image.name).eval()
    state = {f"visual.trunk.{key}": value for key, value in module.state_dict().items()}
    save_file({**state, "logit_scale": torch.ones(1)}, folder / "open_clip_model.safetensors")
    with torch.inference_mode():
        np.save(folder / "own.npy", module(_pixels(config)).numpy())
    return {"million parameters": round(sum(p.numel() for p in module.parameters()) / 1e6, 1)}


def _write_text(folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    torch.manual_seed(11)
    settings = transformers.XLMRobertaConfig(**_BGE_M3)
    settings.save_pretrained(folder)
    words = [(f"▁w{number}", -10.0) for number in range(_BGE_M3["vocab_size"] - 5 - 26)]  # type: ignore[operator]
    letters = [(letter, -12.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer: Any = transformers.XLMRobertaTokenizer(
        vocab=[*special, *letters, *words, ("<mask>", 0.0)]
    )
    tokenizer.save_pretrained(folder)
    module: Any = transformers.XLMRobertaModel(settings).eval()
    torch.save(module.state_dict(), folder / "pytorch_model.bin")
    batch = tokenizer(list(_TEXTS), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = module(**batch).last_hidden_state[:, 0]
    np.save(folder / "own.npy", torch.nn.functional.normalize(hidden, dim=-1).numpy())
    np.savez(folder / "batch.npz", **{key: value.numpy() for key, value in batch.items()})
    return {"million parameters": round(sum(p.numel() for p in module.parameters()) / 1e6, 1)}


def _load(work: Path, config: Config, side: str) -> dict[str, Any]:
    import torch

    from saywhere.towers.checkpoint import convert_pickle
    from saywhere.towers.pooling import pooled_stages, pooled_tokens
    from saywhere.towers.weights import load_image_module, load_text_module

    folder = work / side
    if side == "image":
        image = config.towers.image
        module, report = load_image_module(image)
        with torch.inference_mode():
            found = pooled_stages(module, image)(_pixels(config))
    else:
        pickle, out = folder / "pytorch_model.bin", folder / "model.safetensors"
        out.unlink(missing_ok=True)
        convert_pickle(pickle, out, hash_file(pickle))
        module, report, _ = load_text_module(config.towers.text)
        with np.load(folder / "batch.npz") as batch:
            ids, mask = (torch.from_numpy(batch[key]) for key in ("input_ids", "attention_mask"))
        with torch.inference_mode():
            found = pooled_tokens(module, config.towers.text)(ids, mask)
    difference = float(np.abs(found.numpy() - np.load(folder / "own.npy")).max())
    if not difference <= _BOUND:
        raise SystemExit(f"{side}: {difference} from the library's own numbers")
    return {"furthest from the library's own": f"{difference:.1e}",
            "unused": len(report.unused), **_peak()}  # fmt: skip


def _export(work: Path, config: Config, side: str) -> dict[str, Any]:
    from saywhere.towers import image_tower, text_tower

    own = np.load(work / side / "own.npy")
    if side == "image":
        tower: Any = image_tower(config.towers.image)
        found = tower._session.run(None, {"pixels": _pixels(config).numpy()})[0]
    else:
        tower = text_tower(config.towers.text)
        found = tower.encode(_TEXTS)
    cosine = (found * own).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(own, axis=1)
    size = tower.path.stat().st_size / 1e9
    return {"precision": tower.metadata["precision"], "file": f"{size:.2f} GB",
            "least cosine to the library's own": f"{cosine.min():.6f}", **_peak()}  # fmt: skip


_STEPS = {"write": _write, "load": _load, "export": _export}


def _pixels(config: Config) -> Tensor:
    import torch

    size = config.towers.image.size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def _config(options: argparse.Namespace) -> Config:
    image = options.work / "image/open_clip_model.safetensors"
    return load_config(
        options.preset,
        overrides=[f"towers.image.weights={image}", f"towers.text.name={options.work / 'text'}"],
    )


def _peak() -> dict[str, float]:
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for weights and exports")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--sides", nargs="+", default=["image", "text"])
    parser.add_argument("--step", choices=list(_STEPS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
