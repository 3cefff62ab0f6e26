"""The forms in which a cluster may be named: one parser for every `--address` and for RAY_ADDRESS."""

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
    """HOST:PORT of the head's control store; what drives jobs connects to it."""
    CLIENT = "client"
    """ray://HOST:PORT of the head's client server."""
    DASHBOARD = "dashboard"
    """http://HOST:PORT of the dashboard, which takes submissions."""


class HeadAddress(Frozen):
    """The address of a cluster, by its form."""

    text: str = Field(description="The address as given, without a slash at its end.")
    form: AddressForm = Field(description="What it names.")
    host: str = Field(default="", description="Host, an IPv6 one without brackets; empty for auto.")
    port: int = Field(default=0, description="Port; 0 for auto.")

    @property
    def guessed_head(self) -> str:
        """HOST:6379 of the same host, where Ray puts the head's control store unless told otherwise."""
        return f"[{self.host}]:{HEAD_PORT}" if ":" in self.host else f"{self.host}:{HEAD_PORT}"


def parse_address(text: str) -> HeadAddress:
    """The address that a user gave; raises ClusterError, with all forms, for what is none."""
    given = text.strip().rstrip("/")
    if given == "auto":
        return HeadAddress(text=given, form=AddressForm.AUTO)
    scheme, separator, rest = given.partition("://")
    if not separator:
        scheme, rest = "", given
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    plain = host is not None and parts.path == "" and not (parts.query or parts.fragment or parts.username)
    if not plain or not host or not port or (scheme and scheme not in _SCHEMES) or " " in rest:
        raise ClusterError(f"{text!r} is no address of a Ray cluster: {_FORMS}.")
    form = {"": AddressForm.HEAD, "ray": AddressForm.CLIENT}.get(scheme, AddressForm.DASHBOARD)
    return HeadAddress(text=given, form=form, host=host, port=port)
