"""Addresses that lead to one place, and those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Configuration, ProviderTable
from gateway.places import place_of
from gateway.plugins import load_plugins
from gateway.routing import build_router
from gateway.testing import FakeClock

PLACE = "https://api.openai.com/v1"


def home(base_url: str, directory: Path) -> str:
    """Of a table with this address."""
    table = ProviderTable(name="openai", kind="openai", settings={"api_key": "k", "base_url": base_url})
    configuration = Configuration(providers={"openai": table})
    router = build_router(configuration, load_plugins().classes(), clock=FakeClock(), directory=directory)
    return router.providers["openai"].home


@pytest.mark.parametrize(
    "address",
    [
        "https://api.openai.com/v1/",
        "https://API.openai.com/v1",
        "HTTPS://api.openai.com/v1//",
        "https://api.openai.com:443/v1",
        " https://api.openai.com/v1 ",
        "https://me:key@api.openai.com/v1",
    ],
)
def test_the_same_place_written_otherwise_is_the_same_place(address: str, tmp_path: Path) -> None:
    """A base_url that is tidied up (a slash, a capital, the usual port) is the same place: open batches go on."""
    assert place_of(address) == PLACE
    assert home(address.strip(), tmp_path) == home(PLACE, tmp_path) == PLACE


@pytest.mark.parametrize(
    "address",
    [
        "http://api.openai.com/v1",
        "https://api.openai.com/V1",
        "https://api.openai.com:80/v1",
        "https://api.openai.com:4430/v1",
        "https://api.openai.com/v1?to=b",
        "https://api.openai.com",
    ],
)
def test_another_place_is_another_place(address: str) -> None:
    """A batch is looked for, and its files are deleted, only where it was made."""
    assert place_of(address) != PLACE


@pytest.mark.parametrize("address", ["", "sandbox:sim", "http://[::1", "https://[::1]:8443/v1", "https://h/v1?a=b"])
def test_what_is_written_in_one_way_stays(address: str) -> None:
    """What has one way of being written is left alone, also what is no address."""
    assert place_of(address) == address
    assert place_of(place_of(address)) == address
