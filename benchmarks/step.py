"""Time and memory of one training step against batch size: plain, checkpointed, GradCache.

    python benchmarks/step.py [--batches 16 32 64] [--chunk 16] [--preset small] [--set KEY=VALUE]

Trains both towers' adapters on noise images and made-up captions, as many as a batch holds. Each
measurement runs in a process of its own, so that its peak of resident memory is its own; what the
process holds before the step (towers, libraries) is subtracted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WAYS = {
    "plain": ("tuning.cached_gradients=false", "tuning.checkpointing=false"),
    "checkpointed": ("tuning.cached_gradients=false", "tuning.checkpointing=true"),
    "GradCache": ("tuning.cached_gradients=true", "tuning.checkpointing=false"),
}


def main() -> None:
    """Measure every way at every batch size, and print a Markdown table."""
    options = _options()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    print(f"| {'batch':>6} | " + " | ".join(f"{way}: s, MB" for way in WAYS) + " |")
    print("|---" * (len(WAYS) + 1) + "|")
    for batch in options.batches:
        cells = [f"{batch:6}"]
        for way in WAYS:
            command = [
                sys.executable, __file__, "--measure", way, "--batches", str(batch),
                "--chunk", str(options.chunk), "--preset", options.preset,
                *(flag for override in options.set for flag in ("--set", override)),
            ]  # fmt: skip
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seconds, megabytes = json.loads(found.stdout.splitlines()[-1])
            cells.append(f"{seconds:.1f}, {megabytes:.0f}")
        print("| " + " | ".join(cells) + " |", flush=True)


def measure(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step, and megabytes it adds to the peak of resident memory."""
    import torch

    from saywhere.batches import Batch
    from saywhere.config import load_config
    from saywhere.hardware import Runtime
    from saywhere.heads import Ensemble, create_member
    from saywhere.losses import info_nce
    from saywhere.sources import Wanted
    from saywhere.towers import image_tower, text_tower
    from saywhere.tuning.live import live_images, live_text
    from saywhere.tuning.processes import this_process
    from saywhere.tuning.source import LiveFeatures
    from saywhere.views import View

    ways = ("adapters.image.rank=8", "adapters.text.rank=8", *WAYS[options.measure])
    config = load_config(
        options.preset, overrides=[*ways, f"tuning.chunk={options.chunk}", *options.set]
    )
    torch.set_num_threads(config.threads)
    image = image_tower(config.towers.image, runtime=Runtime(1), adapter=config.adapters.image)
    text = text_tower(config.towers.text, runtime=Runtime(1), adapter=config.adapters.text)
    batch, processes = options.batches[0], this_process(config.tuning)
    with tempfile.TemporaryDirectory() as folder:
        views = [(path, View()) for path in _noise(Path(folder), batch)]
        device = processes.device
        towers = (
            live_images(config, image, views, seed=0, device=device),
            live_text(config, text, _captions(batch), seed=0, device=device),
        )
        features = [np.random.default_rng(0).random((4, t.dimension), "f4") for t in (image, text)]
        part = create_member(features[0], features[1], config.head, 0)
        module = Ensemble([part], {}).to(device)
        source = LiveFeatures(None, towers, config.tuning, processes, 0)  # type: ignore[arg-type]
        rows = np.arange(batch)
        wanted = Wanted(Batch(rows, rows, rows), rows[:0], rows[:0])
        before, seconds = _peak(), []
        for step in range(2):  # the first one allocates
            started = time.perf_counter()
            for found in source.steps([wanted], str(step)):
                negatives = ~torch.eye(batch, dtype=torch.bool, device=device)
                images, texts = part.image(found.images), part.text(found.texts)
                info_nce(images, texts, module.parts[0].scale, negatives).backward()  # type: ignore[no-untyped-call]
                if found.backward:
                    found.backward()
            seconds.append(time.perf_counter() - started)
        return seconds[-1], _peak() - before


def _peak() -> float:
    """Peak of resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _noise(folder: Path, count: int) -> list[Path]:
    import PIL.Image

    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        PIL.Image.fromarray(pixels).resize((256, 256)).save(path)
    return paths


def _captions(count: int) -> list[str]:
    words = ("roof", "pond", "lawn", "road", "car", "tree", "court", "wall", "grey", "long")
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(words, 50)) for _ in range(count)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
