"""The Hugging Face hub: a checkpoint is a folder or a repository, and goes back as one with its card.

Downloading and uploading are huggingface_hub's own. Its `ModelHubMixin` brings `push_to_hub`; loading stays strict and
in one place (`loading.py`), so its `from_pretrained`, which fills a class from the keys of config.json, is not used.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RevisionNotFoundError,
)

from svms_gr00t.core.errors import CheckpointError
from svms_gr00t.core.files.whole import recover

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FAULTS = (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError)


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Which state of a repository, and how to reach it: huggingface_hub's keywords under their own names."""

    revision: str | None = None
    """Branch, tag or commit; None is the main branch."""
    token: str | bool | None = field(default=None, repr=False)
    """Access token, or whether to send the stored one; None sends it when there is one."""
    cache_dir: Path | str | None = None
    """Where downloads are kept; None is huggingface_hub's own place."""
    local_files_only: bool = False
    """Never ask the network."""

    def at(self, revision: str | None) -> "Hub":
        """The same way to another state or repository."""
        return replace(self, revision=revision)


def locate(source: Path | str, *, hub: Hub | None = None, weights: bool = True) -> Path:
    """The checkpoint folder itself, or a local copy of a Hugging Face repository such as nvidia/GR00T-N1.6-3B.

    Without `weights` the JSON files are enough. Raises `CheckpointError` when it is neither.
    """
    hub = hub or Hub()
    local = Path(source).expanduser()
    recover(local)
    if local.is_dir():
        return local
    patterns = ["*.json", "*.safetensors"] if weights else ["*.json"]
    keywords: dict[str, Any] = {"revision": hub.revision, "token": hub.token, "cache_dir": hub.cache_dir}
    try:
        return Path(
            snapshot_download(str(source), allow_patterns=patterns, local_files_only=hub.local_files_only, **keywords)
        )
    except RevisionNotFoundError as error:
        want, hint = "a branch, tag or commit of it", "check revision"
        raise CheckpointError(source, got=f"no revision {hub.revision!r}", want=want, hint=hint) from error
    except _FAULTS as error:
        got = f"no such folder, and no repository to download ({type(error).__name__})"
        where = "cache_dir holds no copy of it" if hub.local_files_only else "check the path, the token or the network"
        raise CheckpointError(source, got=got, want="a GR00T N1.6 checkpoint", hint=where) from error


def commit_of(folder: Path) -> str | None:
    """The commit of a repository's local copy; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def write_card(folder: Path, asked: dict[str, str] | None) -> None:
    """The card that `push_to_hub` asks for; a plain save writes none."""
    if asked is not None:
        (folder / "README.md").write_text(asked["text"], encoding="utf-8")


class OnTheHub(ModelHubMixin):
    """A class with a `save_pretrained` folder and a `model_card` that can go to the hub."""

    def model_card(self, repo_id: str) -> str:
        """README.md of the repository."""
        raise NotImplementedError

    def push_to_hub(self, repo_id: str, *, card: Path | str | None = None, **hub: Any) -> str:  # type: ignore[override]
        """Write the folder of `save_pretrained` and its card into a repository, made when it is not there; the commit.

        `card` is the file or the text of README.md, such as `svms-gr00t card` writes from a run's own results; without
        it the card names the model, its base and its licence, and claims no result. `hub` are huggingface_hub's
        keywords: private, token, branch, create_pr, commit_message, allow_patterns, ignore_patterns, delete_patterns.
        Raises CheckpointError when the hub refuses or cannot be reached.
        """
        text = card.read_text(encoding="utf-8") if isinstance(card, Path) else card or self.model_card(repo_id)
        try:
            return super().push_to_hub(repo_id, model_card_kwargs={"text": text}, **hub)
        except (LocalTokenNotFoundError, *_FAULTS) as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else ""
            got = f"no way to write there ({type(error).__name__}: {said})"
            hint = "pass token=, or log in with `hf auth login`"
            raise CheckpointError(repo_id, got=got, want="a repository of yours", hint=hint) from error
