"""Version of mergeboard and commit of its checkout, as `--version` prints them and as provenance records them."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

_PACKAGE = "mergeboard"


def version() -> str:
    """Version of the installed package."""
    return importlib.metadata.version(_PACKAGE)


def commit() -> str | None:
    """Commit of the checkout that contains this file, with '+' if it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head, dirty = (
            _git(root, *words) for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def version_text() -> str:
    """Version and, in a checkout, its commit: `0.1.0 (commit 0123456789ab)`."""
    checkout = commit()
    return version() if checkout is None else f"{version()} (commit {checkout})"


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=False)
