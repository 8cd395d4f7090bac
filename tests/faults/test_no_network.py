"""No command talks to anybody: with sockets that cannot be made, everything works."""

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.cli import SMALL, Cli


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sockets and look-ups of names are refused and counted, also those that somebody tries and forgives."""
    asked: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        asked.append(repr(arguments))
        raise OSError("there is no network")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    return asked


def test_no_command_asks_for_the_network(cli: Cli, original: Any, tmp_path: Path, no_network: list[str]) -> None:
    ckpt, data = tmp_path / "ckpt", original.data
    cli("train", "--data", "digits", "--out", tmp_path / "digits", *SMALL)
    cli("train", "--data", data, "--out", ckpt, *SMALL, "--reg", "tikhonov")
    cli("train", "--resume", "--out", ckpt, "--epochs", 2)
    cli("fit-density", ckpt, "--components", 2)
    cli("sample", ckpt, "-n", 4, "-o", tmp_path / "out.png")
    cli("reconstruct", ckpt, "--data", data, "-o", tmp_path / "pairs.png")
    cli("interpolate", ckpt, "--data", data, "-o", tmp_path / "walks.png")
    cli("evaluate", ckpt, "--data", data, "--features", "pixels", "-n", 20)
    cli("info", ckpt)
    assert not no_network


def test_an_attempt_would_be_noticed(no_network: list[str]) -> None:
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("127.0.0.1", 9))
    assert len(no_network) == 1
