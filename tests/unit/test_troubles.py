"""How long trouble is borne, and in which words it is told."""

from __future__ import annotations

import math

import pytest

from gateway.errors import Ambiguous, PluginFault, Retryable
from gateway.troubles import backoff, pause_after, trouble


@pytest.mark.parametrize(("troubles", "pause"), [(0, 5), (1, 10), (5, 160), (6, 300), (10_000, 300)])
def test_pauses_double_up_to_a_bound(troubles: int, pause: float) -> None:
    """However long the trouble goes on, the pause is finite."""
    assert backoff(troubles, 5.0, 300.0) == pause


@pytest.mark.parametrize(
    ("error", "pause"),
    [(Retryable(), 10), (Retryable(retry_after=3.0), 10), (Retryable(retry_after=900.0), 900), (Ambiguous(), 10)],
)
def test_what_a_provider_asks_for_is_waited_for(error: Exception, pause: float) -> None:
    """A Retry-After that is longer than our own pause counts."""
    assert pause_after(error, 1, 5.0, 300.0) == pause


def test_no_provider_asks_for_more_than_an_hour() -> None:
    """An error page of a proxy that asks for 22 hours, or for ever, puts a batch off for an hour."""
    assert [pause_after(Retryable(retry_after=wish), 0, 5.0, 300.0) for wish in (80_000.0, math.inf)] == [3600, 3600]


def test_a_trouble_is_named_by_its_class() -> None:
    """The reason of a parked batch says what was raised."""
    assert trouble(Retryable("busy")) == "Retryable: busy"
    assert (
        trouble(PluginFault("plugin of kind 'x' raised KeyError in poll"))
        == "plugin of kind 'x' raised KeyError in poll"
    )
