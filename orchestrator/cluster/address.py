"""Parses cluster addresses: `--address` of all commands, and RAY_ADDRESS."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import ClusterError

HEAD_PORT = 6379
_FORMS = (
    "give HOST:6379 (the head), http://HOST:8265 (its dashboard), ray://HOST:10001 (its client server), "
    "or auto (a head that runs on this machine)"
)
_SCHEMES = ("http", "https", "ray")


class AddressForm(StrEnum):
    """What an address names."""

    AUTO = "auto"
    """The head that runs on this machine."""
    HEAD = "head"
    """HOST:PORT of the head's control store (GCS); a process that drives jobs connects to it."""
    CLIENT = "client"
    """ray://HOST:PORT of the head's client server."""
    DASHBOARD = "dashboard"
    """http://HOST:PORT of the dashboard, which takes submissions."""


class HeadAddress(Frozen):
    """A parsed address of a cluster."""

    text: str = Field(description="The address as given, without trailing slashes.")
    form: AddressForm = Field(description="What it names.")
    host: str = Field(default="", description="Host, IPv6 without brackets; empty for auto.")
    port: int = Field(default=0, description="Port; 0 for auto.")

    @property
    def guessed_head(self) -> str:
        """HOST:6379 of the same host, the default address of the head's control store."""
        return f"[{self.host}]:{HEAD_PORT}" if ":" in self.host else f"{self.host}:{HEAD_PORT}"


def parse_address(text: str) -> HeadAddress:
    """Parse an address; ClusterError, which lists all forms, if it is invalid."""
    trimmed = text.strip().rstrip("/")
    if trimmed == "auto":
        return HeadAddress(text=trimmed, form=AddressForm.AUTO)
    scheme, separator, location = trimmed.partition("://")
    if not separator:
        scheme, location = "", trimmed
    try:
        parts = urlsplit(f"//{location}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    plain = host is not None and parts.path == "" and not (parts.query or parts.fragment or parts.username)
    if not plain or not host or not port or (scheme and scheme not in _SCHEMES) or " " in location:
        raise ClusterError(f"{text!r} is no address of a Ray cluster: {_FORMS}.")
    form = {"": AddressForm.HEAD, "ray": AddressForm.CLIENT}.get(scheme, AddressForm.DASHBOARD)
    return HeadAddress(text=trimmed, form=form, host=host, port=port)
