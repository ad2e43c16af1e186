"""Temperatures and their like in Anthropic's words: by version, by model, by policy."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_lab import NEWEST, OLDER, chat, refused, sent, written


@pytest.mark.parametrize(("field", "number"), [("temperature", 0.5), ("temperature", 0), ("top_p", 0.9), ("top_k", 5)])
def test_sampling_goes_by_version_and_policy(field: str, number: float) -> None:
    """Now refused or left out and reported; forwarded under the older version, to models that take it."""
    body = chat(model=OLDER, **{field: number})

    assert refused(body) == field
    assert field not in sent(body, sampling="drop")
    assert written(body, sampling="drop").dropped == (field,)
    assert sent(body, api_version="2023-06-01")[field] == number
    assert written(body, api_version="2023-06-01").dropped == ()
    assert refused(chat(model=NEWEST, **{field: number}), api_version="2023-06-01") == field


def test_the_provider_s_own_sampling_is_as_good_as_not_said() -> None:
    """1 is the default on both sides: leaving it out changes nothing."""
    body = chat(temperature=1, top_p=1)

    assert {"temperature", "top_p"} & sent(body).keys() == set()
    assert written(body).dropped == ()


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("claude-sonnet-4-6", {"reasoning_effort": "low", "temperature": 0.5}, "temperature"),
        ("claude-sonnet-4-6", {"reasoning_effort": "low", "top_k": 5}, "top_k"),
        (OLDER, {"reasoning_effort": "low", "top_p": 0.9}, "top_p"),
        (OLDER, {"temperature": 0.5, "top_p": 0.97}, "top_p"),
    ],
)
def test_sampling_that_goes_with_nothing_else_here(model: str, fields: dict[str, Any], field: str) -> None:
    """Sampling beside thoughts, and a pair of both, is what the provider refuses hours later; or it goes by policy."""
    body = chat(model=model, **fields)

    assert refused(body, api_version="2023-06-01") == field
    assert written(body, api_version="2023-06-01", sampling="drop").dropped == (field,)
    assert field not in sent(body, api_version="2023-06-01", sampling="drop")


def test_sampling_that_goes_together() -> None:
    """A model before that rule takes both; one that thinks takes a top_p near 1."""
    pair = sent(chat(model="claude-sonnet-4-20250514", temperature=0.5, top_p=0.9), api_version="2023-06-01")
    thinking = sent(chat(model=OLDER, reasoning_effort="low", top_p=0.95), api_version="2023-06-01")

    assert (pair["temperature"], pair["top_p"], thinking["top_p"]) == (0.5, 0.9, 0.95)


def test_hot_sampling_is_refused() -> None:
    """The provider's scale ends at 1; a higher temperature is not quietly made another."""
    assert refused(chat(model=OLDER, temperature=1.5), api_version="2023-06-01") == "temperature"
