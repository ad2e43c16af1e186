"""What lines cost, and when nobody knows."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ProviderTable, TokenPrices
from gateway.prices import Price, Prices, Usage, cost, read_usage
from gateway.testing import FakeClock

OPENAI = ProviderTable(name="main", kind="openai")


@pytest.fixture(name="prices")
def _prices() -> Prices:
    return Prices(FakeClock())


def per_million(price: Price | None) -> tuple[float, float, float] | None:
    """A price as price lists print it."""
    return None if price is None else tuple(round(rate * 1e6, 9) for rate in (price.input, price.cached, price.output))  # type: ignore[return-value]


def test_a_listed_model_has_its_batch_price_and_its_full_price(prices: Prices) -> None:
    """OpenAI's page of 2026-10-14: gpt-4.1 is 1.00 and 4.00 in batches, 2.00, 0.50 cached and 8.00 otherwise."""
    batch, full = prices.price(OPENAI, "gpt-4.1", batch=True), prices.price(OPENAI, "gpt-4.1", batch=False)

    assert per_million(batch) == (1.0, 0.5, 4.0)
    assert per_million(full) == (2.0, 0.5, 8.0)


def test_a_dated_name_is_the_same_model(prices: Prices) -> None:
    """The name with its date, which answers carry, costs what the plain name costs."""
    assert prices.price(OPENAI, "gpt-4.1-2025-04-14", batch=True) == prices.price(OPENAI, "gpt-4.1", batch=True)


def test_a_model_without_a_batch_price_is_unknown(prices: Prices) -> None:
    """The list answers with the full price where it has no batch price: here that is unknown."""
    assert prices.price(OPENAI, "gpt-4o-audio-preview", batch=True) is None
    assert prices.price(OPENAI, "gpt-4o-audio-preview", batch=False) is not None


def test_a_batch_price_equal_to_the_full_price_is_known(prices: Prices) -> None:
    """gpt-3.5-turbo-1106 costs the same in batches, and the list says so with an empty variant."""
    assert per_million(prices.price(OPENAI, "gpt-3.5-turbo-1106", batch=True)) == (1.0, 1.0, 2.0)


def test_a_price_that_is_not_yet_in_force_is_unknown() -> None:
    """A variant that begins later says nothing of lines before it."""
    long_ago = Prices(FakeClock(start=1_600_000_000))

    assert long_ago.price(OPENAI, "gpt-4.1", batch=True) is None


@pytest.mark.parametrize(
    "table",
    [
        ProviderTable(name="a", kind="openai-compatible"),
        ProviderTable(name="a", kind="openai-compatible", settings={"base_url": "http://localhost:9/v1"}),
        ProviderTable(name="openai", kind="kluster"),
        ProviderTable(name="a", kind="azure"),
    ],
)
def test_servers_shaped_like_a_company_have_prices_of_their_own(prices: Prices, table: ProviderTable) -> None:
    """Neither a similar kind nor a table's name borrows OpenAI's prices."""
    assert prices.price(table, "gpt-4.1", batch=True) is None
    assert prices.models(table) == []


def test_the_address_tells_whose_prices_hold(prices: Prices) -> None:
    """A compatible kind that points at OpenAI, by its setting or its default, pays OpenAI's prices."""
    pointed = ProviderTable(name="a", kind="openai-compatible", settings={"base_url": "https://api.openai.com/v1"})
    plain = ProviderTable(name="a", kind="gemini")

    assert per_million(prices.price(pointed, "gpt-4.1", batch=True)) == (1.0, 0.5, 4.0)
    assert prices.price(plain, "gemini-2.5-pro", batch=True) is None
    assert (
        prices.price(plain, "gemini-2.5-pro", batch=True, address="https://generativelanguage.googleapis.com")
        is not None
    )


def test_configured_prices_come_first_and_are_batch_prices(prices: Prices) -> None:
    """The first pattern that matches holds for batches; the full price still comes from the list."""
    table = ProviderTable(
        name="a",
        kind="openai",
        prices={
            "gpt-4.1": TokenPrices(input=0.5, cached=0.1, output=2.0),
            "gpt-*": TokenPrices(input=9.0, cached=9.0, output=9.0),
        },
    )

    assert per_million(prices.price(table, "gpt-4.1", batch=True)) == (0.5, 0.1, 2.0)
    assert per_million(prices.price(table, "gpt-unheard-of", batch=True)) == (9.0, 9.0, 9.0)
    assert per_million(prices.price(table, "gpt-4.1", batch=False)) == (2.0, 0.5, 8.0)


def test_what_is_asked_by_itself_has_its_own_price(prices: Prices) -> None:
    """Configured prices are those of batches, beside which the full price holds; without batches they are all there is."""
    table = ProviderTable(name="a", kind="openai", prices={"gpt-4.1": TokenPrices(input=0.5, cached=0.1, output=2.0)})

    assert per_million(prices.single_price(table, "gpt-4.1", batches=True)) == (2.0, 0.5, 8.0)
    assert per_million(prices.single_price(table, "gpt-4.1", batches=False)) == (0.5, 0.1, 2.0)
    assert prices.single_price(table, "gpt-unheard-of", batches=False) is None


def test_long_prompts_are_dearer(prices: Prices) -> None:
    """gpt-5.4 costs twice the input price for every token of a prompt of more than 272,000 tokens."""
    price = prices.price(OPENAI, "gpt-5.4", batch=True)
    at_most = cost(price, Usage(input=272_000))
    above = cost(price, Usage(input=272_001))

    assert at_most == pytest.approx(272_000 * 1.25e-6)
    assert above == pytest.approx(272_001 * 2.5e-6)


def test_nothing_is_fetched(prices: Prices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking a price up opens no connection."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert prices.price(OPENAI, "gpt-4.1", batch=True) is not None
    assert prices.price(OPENAI, "no such model", batch=True) is None


def test_models_with_a_batch_price_are_known_by_name(prices: Prices) -> None:
    """The list of models has names one can ask for, none that stand for a family, none without a batch price."""
    models = prices.models(OPENAI)

    assert "gpt-4.1" in models
    assert "gpt-4o-audio-preview" not in models
    assert "gemini-embedding-2" not in prices.models(ProviderTable(name="g", kind="google"))
    assert not [name for name in models if name.endswith("-") or ":" in name]
    assert all(prices.price(OPENAI, name, batch=True) is not None for name in models)


PRICE = Price(input=10.0, cached=1.0, written=20.0, output=100.0)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, 230.0),
        ({"input_tokens": 3, "output_tokens": 2}, 230.0),
        ({"prompt_tokens": 3, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 2}}, 12.0),
        ({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1}}, 31.0),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}}, 3.0),
        ({"prompt_tokens": 3, "prompt_tokens_details": None, "completion_tokens_details": None}, 30.0),
        ({"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}, 200.0),
        ({"prompt_tokens": 0, "completion_tokens": 0}, 0.0),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"audio_tokens": 1}}, None),
        ({"prompt_tokens": 3, "completion_tokens_details": {"audio_tokens": 1}}, None),
        ({}, None),
        (None, None),
        ("many", None),
        ({"prompt_tokens": "3"}, None),
        ({"prompt_tokens": -3}, None),
        ({"prompt_tokens": True}, None),
    ],
)
def test_a_line_costs_what_its_tokens_cost(usage: object, expected: float | None) -> None:
    """Cached and written tokens are part of the input and have prices of their own; sound or no usage is unknown."""
    assert cost(PRICE, read_usage(usage)) == expected


def test_an_unknown_price_is_an_unknown_cost() -> None:
    """Without a price there is no cost, not even zero."""
    assert cost(None, Usage(input=1)) is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)
names = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "input_tokens_details", "input_tokens"]
)


@given(
    usage=junk
    | st.dictionaries(names, junk | st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens"]), junk))
)
def test_any_usage_can_be_read(usage: object) -> None:
    """Whatever a provider sends as usage, reading it raises nothing and no cost is negative."""
    paid = cost(PRICE, read_usage(usage))

    assert paid is None or paid >= 0
