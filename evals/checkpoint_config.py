"""A checkpoint's config.json, as an engine reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.errors import EngineError


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's config.json; EngineError if it is missing or unreadable."""
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError(
            f"{checkpoint} is not a checkpoint, it has no config.json: name its directory."
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} cannot be read ({error}): correct it or download the checkpoint again."
        ) from error
    if not isinstance(config, dict):
        raise EngineError(f"{path} holds no JSON object: correct it or download the checkpoint again.")
    return config
