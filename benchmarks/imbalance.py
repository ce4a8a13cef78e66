"""Where experts should pay: few satellite images, or thousands. The tables of docs/ladder.md.

    python benchmarks/imbalance.py ../shared/data [--seeds 3] [--only few,thousands] [--places 30]

``few``: satellite images of 30 training places, 300 by drone, 300 from the ground. ``thousands``:
RSICD's training images join those of ``geotext-mini``, which are repeated until they are half of
what is seen. One generalist, three averaged, experts with heads of their own and experts as small
residuals are trained alike and asked as in ``better.py``; with thousands also RSICD's validation
captions for their images. ``few`` stands on the image tower as published: the tuned blocks saw the
satellite images of every place. The tables go to stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from better import PINNED
from rows import base, residual
from rows.common import Material, Pool, Row, Setting, asked, load, say, table

from saywhere.config import CanonicalConfig, Config, StageConfig, load_config
from saywhere.data import read
from saywhere.hardware import Runtime
from saywhere.more import mixed, view_config
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.trainset import prepare
from saywhere.types import Platform

ROOT = Path(__file__).parents[1]
RSICD = "RSICD validation, text to image"
HALF = 0.5
Towers = tuple[ImageTower, TextTower]


def main() -> None:
    """Train, ask, tabulate."""
    options = _options()
    for name in options.only:
        pinned, make = PARTS[name]
        overrides = [*PINNED, *pinned, *options.set]
        config = load_config(path=ROOT / "examples/shipped.toml", overrides=overrides)
        one = Runtime(1)
        towers = (
            image_tower(config.towers.image, runtime=one),
            text_tower(config.towers.text, runtime=one),
        )
        material = make(options, config, towers)
        say(f"{name}: {len(material.data.train)} images to learn from")
        setting = Setting(material, Pool(options.out), tuple(range(options.seeds)), options.data)
        rows = _rows(setting)
        print(f"### {name.capitalize()}\n\n{table(rows, rows, material.questions)}")


def _rows(setting: Setting) -> list[Row]:
    made = base.rows(setting, (1, 3)) + residual.separate_rows(setting)
    shapes = [shape for shape in residual.SHAPES if shape.after]
    for shape in shapes:
        made += setting.kept(shape.name, partial(residual.shape_rows, setting, shape))
    return made


def _few(options: argparse.Namespace, config: Config, towers: Towers) -> Material:
    return load(options.data, config, towers, {Platform.SATELLITE: options.places})


def _thousands(options: argparse.Namespace, config: Config, towers: Towers) -> Material:
    """Heads and a stage as for thousands; no closed form, for it trained heads are too good."""
    settings = {
        "stage1": config.more.stage,
        "stage2": StageConfig(epochs=0),
        "canonical": CanonicalConfig(),
    }
    train = config.train.model_copy(update=settings)
    config = config.model_copy(update={"head": config.more.head, "train": train})
    own = load(options.data, config, towers)
    fewer = view_config(config)
    more = prepare(read(options.data / "rsicd/train-without-valid"), fewer, towers)
    train = mixed(own.data.train, more.train, HALF)
    times = (len(train) - len(more.train)) // len(own.data.train)
    seen = (*more.test_features, *times * own.data.test_features)
    data = replace(own.data, train=train, test_features=seen)
    valid = asked(read(options.data / "rsicd/valid_filename.txt"), fewer, towers)
    return Material(config, data, towers, {**own.questions, RSICD: valid})


Part = Callable[[argparse.Namespace, Config, Towers], Material]
# Settings, and what makes the material.
PARTS: Mapping[str, tuple[tuple[str, ...], Part]] = {
    "few": (('towers.image.tuned=""', "views.degraded=0"), _few),
    "thousands": ((), _thousands),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini, track4-mini and rsicd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--places", type=int, default=30, help="with satellite images, of few")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/imbalance-rows"))
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in PARTS]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    main()
