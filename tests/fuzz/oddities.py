"""What may lie in a folder of photos besides files: planted beside the malformed images."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fuzz.sound import sound_images


def plant_oddities(folder: Path) -> None:
    """Folders, links, pipes and names that no reader should stumble over."""
    photo = sound_images()["JPEG RGB"][1]
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg/inside.jpg").write_bytes(photo)
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    (folder / "there.jpg").symlink_to(folder / "back.jpg")
    (folder / "back.jpg").symlink_to(folder / "there.jpg")
    (folder / "loop").symlink_to(folder)
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/up").symlink_to(folder / "deep")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket may have a hundred characters only
        listener.bind("socket.jpg")
        os.chdir(here)
    for stem in ("line\nend", "bell\a", "\u202egpj", "q\"uote'", "é" * 120):
        (folder / f"{stem}.jpg").write_bytes(photo)
    (folder / "broken\nline.png").write_bytes(b"no image")
    (folder / ".hidden.jpg").write_bytes(photo)
    # Names in another encoding, one sound, one not.
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(photo)
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"no image")


# Of the above: images whose names can be indexed, and sound ones among them.
SOUND_NAMES = 6
READABLE_NAMES = SOUND_NAMES + 1
OTHER_ENCODINGS = 2
