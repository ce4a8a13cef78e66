"""A small procedural world: a campus seen by satellite, by drone and from the ground, in words too.

From a seed come pictures with coordinates, captions to train on and queries to be tested with, in
the layouts of GeoText-1652 and RoboSense Track 4 and as georeferenced files. Nothing is downloaded.
"""

from __future__ import annotations

from saywhere.world.model import Attributes, Shot, World, WorldConfig, WorldPlace
from saywhere.world.store import load_world
from saywhere.world.write import render_world

__all__ = [
    "Attributes",
    "Shot",
    "World",
    "WorldConfig",
    "WorldPlace",
    "load_world",
    "render_world",
]
