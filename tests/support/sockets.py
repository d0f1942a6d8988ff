"""A network that nobody can use, and that keeps who tried."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


def refuse_sockets(monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> list[object]:
    """Every attempt to reach or to look up another machine; none succeeds."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return attempts
