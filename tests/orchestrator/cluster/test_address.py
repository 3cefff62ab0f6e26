"""The forms of --address, and what is said of a token that is not sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cluster.address import AddressForm, parse_address
from orchestrator.errors import ClusterError, TokenError


@pytest.mark.parametrize(
    ("text", "form", "host", "port"),
    [
        ("auto", AddressForm.AUTO, "", 0),
        ("10.0.0.1:6379", AddressForm.HEAD, "10.0.0.1", 6379),
        ("head.example:7000", AddressForm.HEAD, "head.example", 7000),
        ("[::1]:6379", AddressForm.HEAD, "::1", 6379),
        ("ray://head:10001", AddressForm.CLIENT, "head", 10001),
        ("http://head:8265", AddressForm.DASHBOARD, "head", 8265),
        ("https://head.example:443/", AddressForm.DASHBOARD, "head.example", 443),
    ],
)
def test_forms(text: str, form: AddressForm, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.form, address.host, address.port) == (form, host, port)


def test_the_head_that_is_guessed_of_a_dashboard() -> None:
    assert parse_address("http://head:8265").guessed_head == "head:6379"
    assert parse_address("http://[::1]:8265").guessed_head == "[::1]:6379"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "head",
        "head:",
        ":6379",
        "head:port",
        "head:99999",
        "ssh://head:22",
        "http://head",
        "http://user:word@head:8265",
        "http://head:8265/api/jobs",
        "one two:6379",
        "a:b:c",
        "[::1:6379",
    ],
)
def test_what_is_none_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ClusterError) as refused:
        parse_address(text)
    sentence = str(refused.value)
    for form in ("HOST:6379", "http://HOST:8265", "ray://HOST:10001", "auto"):
        assert form in sentence
    assert "\n" not in sentence


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_token_that_ray_does_not_send(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none is set" in str(TokenError("h:1"))
    (no_token / ".ray").mkdir()
    (no_token / ".ray" / "auth_token").write_text("x")
    assert "auth_token" in str(TokenError("h:1"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "RAY_AUTH_MODE=disabled keeps Ray from sending it" in str(TokenError("h:1"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    sentence = str(TokenError("h:1"))
    assert "a token is set (RAY_AUTH_TOKEN)" in sentence
    assert "secret" not in sentence
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "is not the cluster's" in str(TokenError("h:1"))
