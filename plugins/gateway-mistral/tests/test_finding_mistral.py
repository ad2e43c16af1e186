"""Finding ours among several."""

from __future__ import annotations

from gateway import RemoteBatch, RemoteState
from gateway.clock import as_datetime
from gateway_mistral.remote import oldest_first


def test_the_oldest_comes_first() -> None:
    """Of several batches of one create the oldest is ours, whatever the order of the list; unknown times come last."""
    seen = [
        RemoteBatch(remote_id=name, state=RemoteState.RUNNING, created=None if at is None else as_datetime(at))
        for name, at in (("c", 30.0), ("unknown", None), ("a", 10.0), ("b", 20.0))
    ]

    assert [remote.remote_id for remote in oldest_first(seen)] == ["a", "b", "c", "unknown"]
