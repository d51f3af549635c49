"""Ports: refuse a busy one before anything is started."""

from __future__ import annotations

import argparse
import socket

from gauntlet.errors import SettingError


def port(text: str) -> int:
    """Parse a port for argparse; 0 is refused because the server's address would be unknown."""
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def require_free(host: str, number: int, *, flag: str = "--port") -> None:
    """Raise unless `host` can be listened on at this port."""
    try:
        family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # The server sets it too; without it a port just left (TIME_WAIT) would look busy.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, number))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingError(
            f"cannot listen on {host}: {reason}", where=f"{flag} {number}", fix="choose another"
        ) from error
