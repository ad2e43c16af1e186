"""How long trouble is borne, and in which words it is told."""

from __future__ import annotations

import pytest

from gateway.errors import PluginFault, Retryable
from gateway.troubles import backoff, trouble


@pytest.mark.parametrize(("troubles", "pause"), [(0, 5), (1, 10), (5, 160), (6, 300), (10_000, 300)])
def test_pauses_double_up_to_a_bound(troubles: int, pause: float) -> None:
    """However long the trouble goes on, the pause is finite."""
    assert backoff(troubles, 5.0, 300.0) == pause


def test_a_trouble_is_named_by_its_class() -> None:
    """The reason of a parked batch says what was raised."""
    assert trouble(Retryable("busy")) == "Retryable: busy"
    assert (
        trouble(PluginFault("plugin of kind 'x' raised KeyError in poll"))
        == "plugin of kind 'x' raised KeyError in poll"
    )
