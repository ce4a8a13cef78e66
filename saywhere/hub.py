"""Trained experts to a hub and back, through huggingface_hub.

Only the files that the manifest names travel, and only after they were checked. The access token
comes from ``HF_TOKEN`` or ``hf auth login`` and is never an argument, so no configuration, command
line or provenance can hold it; a file that nevertheless does is not pushed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saywhere.bundle import check_target, load_experts, place_experts
from saywhere.card import CardFacts, make_card
from saywhere.errors import ExpertError, InputError, MissingExtraError, SaywhereError
from saywhere.manifest import MANIFEST_FILE, TOWERS_FOLDER, Manifest, check_towers, read_manifest

CARD_FILE = "README.md"
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")


def push_experts(
    folder: Path, repo: str, facts: CardFacts, *, private: bool = False, towers: bool = True
) -> str:
    """Push experts with a generated model card, in one commit.

    Args:
        repo: owner/name; made if it is not there.
        towers: carry the exported towers along; else whoever pulls exports them.

    Returns:
        address of the commit.

    Raises:
        ExpertError: the experts are incomplete or altered.
        InputError: the card's facts, a secret in a file, or a hub that refuses.
    """
    experts = load_experts(folder)
    check_towers(folder)
    manifest = read_manifest(folder)
    card = make_card(experts, manifest, facts, repo)
    names = _names(folder, manifest, towers=towers)
    _refuse_secrets(folder, names, card)
    with _hub(repo) as hub:
        hub.create_repo(repo, private=private, exist_ok=True)
        added = [hub.operation(name, str(folder / name)) for name in names]
        added.append(hub.operation(CARD_FILE, card.encode("utf-8")))
        return hub.commit(repo, added, f"Experts {manifest.hash[:12]}")


def pull_experts(
    repo: str, out: Path, *, revision: str | None = None, overwrite: bool = False
) -> str:
    """Fetch experts, check every byte, and only then put them at ``out``.

    Returns:
        the commit they are of; everything is fetched from that one.

    Raises:
        InputError: ``out`` is taken, or the hub does not give the files.
        ExpertError: what was fetched is incomplete, altered, or names files it should not.
    """
    check_target(out, overwrite=overwrite)
    parent = out.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=".saywhere."))
        temporary.chmod(0o755)  # mkdtemp makes folders private; artefacts are for the team
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); choose another place"
        ) from None
    try:
        with _hub(repo) as hub:
            commit = hub.commit_of(repo, revision)
            hub.fetch(repo, MANIFEST_FILE, commit, temporary)
            manifest = read_manifest(temporary)  # its names lead nowhere else, or it is refused
            (temporary / TOWERS_FOLDER).mkdir()
            present = set(hub.names(repo, commit))
            towers = [f"{TOWERS_FOLDER}/{name}" for name in manifest.tower_files]
            for name in [*manifest.files, *(name for name in towers if name in present)]:
                hub.fetch(repo, name, commit, temporary)
        shutil.rmtree(temporary / ".cache", ignore_errors=True)  # huggingface_hub's own notes
        load_experts(temporary)
        check_towers(temporary)
        place_experts(temporary, out)
    except ExpertError as error:
        raise ExpertError(f"{repo}: {error}".replace(str(temporary), "")) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return commit


def _names(folder: Path, manifest: Manifest, *, towers: bool) -> list[str]:
    """Files to push: those the manifest names, nothing else that lies in the folder."""
    names = [MANIFEST_FILE, *sorted(manifest.files)]
    if towers:
        carried = [f"{TOWERS_FOLDER}/{name}" for name in sorted(manifest.tower_files)]
        names += [name for name in carried if (folder / name).is_file()]
    return names


def _refuse_secrets(folder: Path, names: list[str], card: str) -> None:
    """No text that leaves may hold an access token: the user's own, or what looks like one."""
    token = _token()
    texts = {name: (folder / name).read_bytes() for name in names if _is_text(name)}
    texts[CARD_FILE] = card.encode("utf-8")
    for name, content in texts.items():
        if _TOKEN.search(content) or (token and token.encode() in content):
            raise InputError(
                f"{name}: holds an access token; revoke it, remove it from the file's source "
                "(a path, a flag, the data terms) and train or push again"
            )


def _is_text(name: str) -> bool:
    return not name.endswith((".safetensors", ".onnx"))


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


class _Hub:
    """The few calls made, so that everything the hub raises passes one place."""

    def __init__(self) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi(library_name="saywhere")

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        self._api.create_repo(repo, private=private, exist_ok=exist_ok)

    def operation(self, name: str, content: str | bytes) -> object:
        from huggingface_hub import CommitOperationAdd

        return CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)

    def commit(self, repo: str, operations: list[object], message: str) -> str:
        done = self._api.create_commit(repo, operations, commit_message=message)  # type: ignore[arg-type]
        return str(done.commit_url)

    def commit_of(self, repo: str, revision: str | None) -> str:
        return str(self._api.model_info(repo, revision=revision).sha)

    def names(self, repo: str, commit: str) -> list[str]:
        return self._api.list_repo_files(repo, revision=commit)

    def fetch(self, repo: str, name: str, commit: str, folder: Path) -> None:
        self._api.hf_hub_download(repo, name, revision=commit, local_dir=folder)


@contextmanager
def _hub(repo: str) -> Iterator[_Hub]:
    """The hub; whatever it raises becomes one line without the token in it."""
    try:
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise MissingExtraError("hub", "hub", "huggingface_hub") from None
    disable_progress_bars()
    token = _token()
    try:
        yield _Hub()
    except SaywhereError:
        raise
    except Exception as error:  # HTTP, connection, validation and offline errors share no base
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        cause = " ".join(str(error).split())[:200]
        if token:
            cause = cause.replace(token, "***")
        raise InputError(f"{repo}: the hub did not serve ({cause}); {_remedy(status)}") from None


def _remedy(status: int | None) -> str:
    if status in (401, 403):
        return "log in with a token that may: hf auth login, or set HF_TOKEN"
    if status == 404:
        return "check owner/name and revision; a private repository needs: hf auth login"
    return "check owner/name and the network, HF_ENDPOINT and HF_HUB_OFFLINE, and run again"
