"""Checkpoints of a training, so that the same command goes on where a kill ended it.

    .experts.training/              beside ``experts``; one process works in it
      3f0c61…/                      one training: the hash of everything that shapes its numbers
        refit/drone-1.safetensors   a member: its arrays, and as JSON in the header where it stands

A member's file is replaced whole, and believed only if its digest fits. It holds everything the
next epoch depends on, so experts that were interrupted are equal to those that were not, bit by
bit. Another configuration, other data or other code is another training, which sees none of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import InputError
from saywhere.files import hash_arrays, hash_text, write_bytes
from saywhere.ranks import rank
from saywhere.types import Log

EVERY_S = 10.0
# A checkpoint may take this share of the time since the one before it; a member's last is one more.
_SHARE = 0.01
_HEADER = "saywhere"
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a member stands.

    Attributes:
        stage: its name.
        epoch: epochs of that stage that are done.
        loss: of the last of them.
        generators: states of NumPy bit generators, by name.
        arrays: parameters, and what else the stage goes on with.
    """

    stage: str
    epoch: int
    loss: float
    generators: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, NDArray[Any]]


class MemberCheckpoints:
    """The checkpoint of one member, the latest only.

    Attributes:
        latest: stage and epoch of it, once it was read or written.
    """

    def __init__(self, path: Path, training: Training) -> None:
        self.latest: tuple[str, int] | None = None
        self._path = path
        self._training = training
        self._since = time.monotonic()
        self._cost = 0.0

    def load(self) -> Checkpoint | None:
        """The latest checkpoint; None where there is none, with a remark where it is damaged."""
        try:
            found = _read(self._path)
        except FileNotFoundError:
            return None
        except Exception as error:  # safetensors' own errors share no public base with the rest
            cause = " ".join(str(error).split())[:120]
            self._training.log(
                f"checkpoint {self._path}: damaged ({cause}); this member starts anew"
            )
            return None
        self._training.resumed += 1
        self.latest = found.stage, found.epoch
        return found

    def due(self) -> bool:
        """Whether enough time has passed since the last one."""
        passed, every = time.monotonic() - self._since, self._training.every
        return not every or passed >= max(every, self._cost / _SHARE)

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint; of several processes the first one does.

        Raises:
            InputError: it cannot be written; the one before it stays.
        """
        if rank():
            return
        started = time.monotonic()
        write_bytes(self._path, _packed(checkpoint))
        self.latest = checkpoint.stage, checkpoint.epoch
        self._since = time.monotonic()
        self._cost = self._since - started


class Training:
    """Checkpoints of one training.

    Attributes:
        folder: where they are; what else the training can do without lies there, too.
        log: for remarks.
        every: seconds between checkpoints of a member; 0: after every epoch.
        resumed: members that went on from a checkpoint.
    """

    def __init__(self, folder: Path, log: Log, every: float = EVERY_S) -> None:
        self.log, self.every = log, every
        self.resumed = 0
        self.folder = folder

    def member(self, part: str, name: str) -> MemberCheckpoints:
        """Of the member ``name``, such as ``drone/1``, in one part of the training."""
        return MemberCheckpoints(self.folder / part / f"{name.replace('/', '-')}{_SUFFIX}", self)


class WorkFolder:
    """The hidden folder beside ``--out``, while this process holds it; see ``open_work``."""

    def __init__(self, folder: Path, log: Log, every: float) -> None:
        self._folder, self._log, self._every = folder, log, every

    def training(self, key: str) -> Training:
        """Checkpoints of the training that ``key`` identifies."""
        return Training(self._folder / key[:32], self._log, self._every)

    def forget(self, key: str) -> None:
        """Delete the checkpoints of a training whose experts are saved."""
        if key:
            shutil.rmtree(self._folder / key[:32], ignore_errors=True)

    def clear(self) -> None:
        """Delete the checkpoints of every training."""
        for path in self._folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def count(self) -> int:
        """How many trainings have checkpoints here."""
        return len(list(self._folder.iterdir()))


@contextmanager
def open_work(out: Path, log: Log, *, every: float = EVERY_S) -> Iterator[WorkFolder]:
    """The work folder of trainings into ``out``, held against other processes.

    Args:
        out: where the experts will be; a link is followed.
        every: seconds between checkpoints of a member.

    Raises:
        InputError: another process trains into ``out``, or the place cannot be written to.
    """
    target = out.resolve()
    # Cut: a name may be as long as the file system allows, and this one is longer.
    folder = target.with_name(f".{target.name[:80]}.training")
    if rank():  # the first of several processes holds it for all of them
        yield WorkFolder(folder, log, every)
        return
    handle = _hold(folder, out)
    try:
        yield WorkFolder(folder, log, every)
    finally:
        with suppress(OSError):  # only an empty folder goes
            folder.rmdir()
        os.close(handle)


def _hold(folder: Path, out: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); "
            "check its folder's rights and free space, or choose another --out"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.path.samestat(os.fstat(handle), folder.stat())
    except (BlockingIOError, FileNotFoundError):
        held = False
    except OSError:  # no locks here: checkpoints of two trainings still lie apart, or are equal
        held = True
    if not held:
        os.close(handle)
        raise InputError(
            f"{out}: another process is training into it; "
            "wait for that to finish, or choose another --out"
        )
    return handle


def _packed(checkpoint: Checkpoint) -> bytes:
    from safetensors.numpy import save

    state = json.dumps(
        {
            "stage": checkpoint.stage,
            "epoch": checkpoint.epoch,
            "loss": checkpoint.loss,
            "generators": checkpoint.generators,
        }
    )
    digest = hash_text(state + hash_arrays(checkpoint.arrays))
    contiguous = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}
    return save(contiguous, {_HEADER: state, "digest": digest})


def _read(path: Path) -> Checkpoint:
    """Raises FileNotFoundError, or whatever damaged bytes lead to."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        header = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    state = header[_HEADER]
    if header["digest"] != hash_text(state + hash_arrays(arrays)):
        raise ValueError("its digest does not fit")
    return Checkpoint(**json.loads(state), arrays=arrays)
