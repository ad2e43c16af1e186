"""The listening socket: bound before anything slow, and honest about what it cannot have."""

from __future__ import annotations

import resource
import socket

import pytest

from gateway.listening import listen, raise_file_limit


def test_callers_are_kept_by_the_kernel_before_anybody_accepts() -> None:
    """A caller connects and sends although nothing accepts yet: a start is silence, not refusal."""
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()[:2]
        callers = [socket.create_connection((host, port)) for _ in range(50)]
        for caller in callers:
            caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
            caller.close()
        assert not listener.getblocking()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_accepted_connections_notice_dead_peers() -> None:
    """Every accepted connection gives a silent peer up after 30 s."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    """Two gateways on one port: the second is told so."""
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])


def test_an_address_that_is_not_ours_is_an_error() -> None:
    """Nothing listens where it was not asked to."""
    with pytest.raises(OSError, match="assign"):
        listen("192.0.2.1", 0)


def test_a_port_just_left_is_free_again() -> None:
    """A restart does not wait for old connections to be forgotten by the kernel."""
    first = listen("127.0.0.1", 0)
    address = first.getsockname()[:2]
    first.setblocking(True)
    caller = socket.create_connection(address)
    accepted, _ = first.accept()
    accepted.close()
    caller.close()
    first.close()
    listen(*address).close()


def test_file_limit_is_lifted_to_the_hard_one() -> None:
    """Each waiting caller costs a descriptor: the soft limit is no limit, and some are kept for ourselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        room = raise_file_limit()
        lifted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert lifted > min(soft, 256)
        assert 1 <= room < lifted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
