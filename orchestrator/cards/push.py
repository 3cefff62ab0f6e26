"""Open a pull request on the hub with a card's metadata; the change is shown before anything is sent."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from pydantic import Field

from evals.engine import Frozen
from evals.errors import first_line
from orchestrator.cards.splice import EVAL_RESULTS, CardText, updated
from orchestrator.errors import CardError

_README, _RESULTS = "README.md", ".eval_results/mergeboard.yaml"
_TIMEOUT_S = 30


class CardProposal(Frozen):
    """A change of one file of a model repository, not sent yet."""

    repository: str = Field(description="The model repository, org/name.")
    path: str = Field(description="Path of the file in the repository.")
    parent: str = Field(description="Commit that the change was made from.")
    before: str = Field(description="The file's text now; empty if it does not exist.")
    after: str = Field(description="The file's text with the change.")
    kept: tuple[str, ...] = Field(default=(), description="Results of the model-index that stay as they are.")

    @property
    def diff(self) -> str:
        """The change as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        changed = difflib.unified_diff(before, after, fromfile=self.path, tofile=self.path)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in changed)


def propose(repository: str, written: CardText) -> CardProposal:
    """The change that a form of `mergeboard card` makes in a repository. Raises CardError if it cannot be read or changes nothing."""
    token = _token()
    name = _RESULTS if written.form == EVAL_RESULTS else _README
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    try:
        sha = api.model_info(repository, timeout=_TIMEOUT_S).sha or "main"
        before = _text(api, repository, name, sha)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise _explained(repository, error) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        if before:
            path.write_bytes(before.encode("utf-8"))
        after, kept = updated(path, written)
    if after == before:
        raise CardError(f"{name} of {repository} is so already; there is nothing to propose.")
    return CardProposal(repository=repository, path=name, parent=sha, before=before, after=after, kept=kept)


def open_pull_request(proposal: CardProposal, title: str) -> str:
    """Send a change as a pull request; returns its URL. Raises CardError if the hub does not take it."""
    api = HfApi(endpoint=constants.ENDPOINT, token=_token())
    addition = CommitOperationAdd(proposal.path, proposal.after.encode("utf-8"))
    try:
        commit = api.create_commit(
            proposal.repository,
            [addition],
            commit_message=title,
            commit_description="Card by mergeboard, from stored evaluations.",
            create_pr=True,
            parent_commit=proposal.parent,
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise _explained(proposal.repository, error) from error
    return commit.pr_url or str(commit.commit_url)


def _text(api: HfApi, repository: str, name: str, sha: str) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = api.hf_hub_download(repository, name, revision=sha, local_dir=folder)
            return Path(path).read_bytes().decode("utf-8")
    except EntryNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise CardError(f"{name} of {repository} is not text; nothing was sent.") from error


def _token() -> str:
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise CardError("A pull request on the hub needs a token with write access: set HF_TOKEN.")
    return token


def _explained(repository: str, error: Exception) -> CardError:
    """One sentence for an error of the hub; the token is in none of its messages."""
    if isinstance(error, RepositoryNotFoundError):
        return CardError(f"The hub has no model {repository} that this token can see; nothing was sent.")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        reason = (error.server_message or str(error)).splitlines()[0][:200]
        if status in (401, 403):
            return CardError(
                f"The hub refused the token for {repository} (HTTP {status}); give HF_TOKEN write access to discussions."
            )
        return CardError(f"The hub did not take the change of {repository} (HTTP {status}: {reason}).")
    reason = first_line(error)[:200]
    return CardError(f"The hub could not be asked about {repository} ({reason}); nothing was sent.")
