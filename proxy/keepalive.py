"""A line that is cut without a word is found out: between gateways and guards, on either end."""

from __future__ import annotations

import asyncio
import socket

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 30, 10, 3
"""A peer that answers nothing for a minute is gone. The kernel probes; nothing is sent while data flows."""


def keep_alive(transport: asyncio.Transport) -> None:
    """Probes the connection while it is silent, and gives it up when nothing answers. Nothing on a Unix socket."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        # Unanswered data counts too: without it the kernel sends it again for a quarter of an hour.
        ("TCP_USER_TIMEOUT", (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT) * 1000),
    ):
        if hasattr(socket, option):  # each system has its own set
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
