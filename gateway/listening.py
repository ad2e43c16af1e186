"""The listening socket, bound before anything slow: from then on the kernel accepts and keeps callers.

Floor 1, and light: `serve` uses it before its heavy imports, so that a restart is silence to callers, not refusal.
"""

from __future__ import annotations

import resource
import socket

BACKLOG = 4096
#: A peer that is gone without a word is noticed after this long without its acknowledgement.
USER_TIMEOUT_MILLISECONDS = 30_000
#: Descriptors the process needs beside those of callers.
SPARE_FILES = 512


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any). Accepted connections inherit its options.

    Raises `OSError` when the address is taken or not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MILLISECONDS)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
    except OSError:
        listener.close()
        raise
    return listener


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one; returns how many callers fit under it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most - SPARE_FILES)
