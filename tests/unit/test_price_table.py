"""Which kinds' models have a known price, with the price list that is installed: known is what the list says of batches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import Configuration, ProviderTable, TokenPrices
from gateway.configured import ConfiguredProvider
from gateway.plugins import load_plugins
from gateway.prices import Price, Prices, Usage, cost
from gateway.routing import build_router
from gateway.testing import FakeClock

NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
UNKNOWN = None

#: What a kind's table needs beside its key.
NEEDED: Mapping[str, Mapping[str, object]] = {
    "azure": {"base_url": "https://resource.openai.azure.com"},
    "fanout": {"base_url": "http://127.0.0.1:8000/v1"},
    "openai-compatible": {"base_url": "https://api.example.com/v1"},
    "vertex": {"project": "p", "bucket": "gs://my-bucket"},
}

#: (kind, model) -> USD per million tokens of input, cached input and output in a batch, and asked for at once.
TABLE = [
    ("openai", "gpt-4.1", (1.0, 0.5, 4.0), (2.0, 0.5, 8.0)),
    ("openai", "gpt-5", (0.625, 0.0625, 5.0), (1.25, 0.125, 10.0)),
    ("openai", "gpt-of-nobody", UNKNOWN, UNKNOWN),
    ("anthropic", "claude-haiku-4-5", (0.5, 0.05, 2.5), (1.0, 0.1, 5.0)),
    ("anthropic", "claude-haiku-4-5-20251001", (0.5, 0.05, 2.5), (1.0, 0.1, 5.0)),
    ("gemini", "gemini-2.5-flash", (0.15, 0.03, 1.25), (0.3, 0.03, 2.5)),
    ("gemini", "gemini-2.0-of-nobody", UNKNOWN, UNKNOWN),
    ("vertex", "gemini-2.5-flash", (0.15, 0.03, 1.25), (0.3, 0.03, 2.5)),
    ("mistral", "mistral-small-latest", (0.075, 0.0075, 0.3), (0.15, 0.015, 0.6)),
    ("mistral", "mistral-large-latest", UNKNOWN, (2.0, 2.0, 6.0)),
    ("groq", "openai/gpt-oss-120b", (0.075, 0.075, 0.3), (0.15, 0.075, 0.6)),
    ("groq", "llama-3.3-70b-versatile", UNKNOWN, (0.59, 0.59, 0.79)),
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", UNKNOWN, (0.88, 0.88, 0.88)),
    ("azure", "gpt-4.1", UNKNOWN, UNKNOWN),
    ("azure", "our-batch-deployment", UNKNOWN, UNKNOWN),
    ("kluster", "klusterai/Meta-Llama-3.1-8B-Instruct-Turbo", UNKNOWN, UNKNOWN),
    ("openai-compatible", "gpt-4.1", UNKNOWN, UNKNOWN),
    ("fanout", "gpt-4.1", UNKNOWN, UNKNOWN),
]

Rates = tuple[float, float, float]


@pytest.fixture(name="prices")
def _prices() -> Prices:
    return Prices(FakeClock(start=NOW))


def configured(kind: str, directory: Path, **changes: object) -> ConfiguredProvider:
    """A provider of this kind, as a start makes it."""
    settings = {"api_key": "k", **NEEDED.get(kind, {}), **changes}
    sandbox = settings.pop("sandbox", False) is True
    table = ProviderTable(name="p", kind=kind, sandbox=sandbox, settings=settings)
    simulators = {"p": "http://127.0.0.1:9"} if sandbox else {}
    router = build_router(
        Configuration(providers={"p": table}),
        load_plugins().classes(),
        clock=FakeClock(),
        directory=directory,
        simulators=simulators,
    )
    return router.providers["p"]


def rates(price: Price | None) -> Rates | None:
    """A price as price lists print it."""
    if price is None:
        return None
    return round(price.input * 1e6, 9), round(price.cached * 1e6, 9), round(price.output * 1e6, 9)


def both(prices: Prices, provider: ConfiguredProvider, model: str) -> tuple[Rates | None, Rates | None]:
    """What a batch costs, and what a call at once costs."""
    return (
        rates(prices.price(provider.table, model, batch=True, address=provider.price_address)),
        rates(prices.price(provider.table, model, batch=False, address=provider.price_address)),
    )


def test_the_table_has_every_kind() -> None:
    """A kind that is added says here what is known of its prices."""
    assert {kind for kind, *_ in TABLE} == set(load_plugins().kinds)


@pytest.mark.parametrize(("kind", "model", "batch", "full"), TABLE)
def test_a_kinds_prices_are_its_companys_or_unknown(
    *, kind: str, model: str, batch: Rates | None, full: Rates | None, prices: Prices, tmp_path: Path
) -> None:
    """Where the list has no batch price, a batch's price is unknown, however well the full price is known."""
    assert both(prices, configured(kind, tmp_path), model) == (batch, full)


@pytest.mark.parametrize(("kind", "model", "batch", "full"), TABLE)
def test_a_simulator_costs_what_its_company_would(
    *, kind: str, model: str, batch: Rates | None, full: Rates | None, prices: Prices, tmp_path: Path
) -> None:
    """With `sandbox = true` the bill is the rehearsed one: that of the kind's own address."""
    assert both(prices, configured(kind, tmp_path, sandbox=True), model) == (batch, full)


@pytest.mark.parametrize(
    ("kind", "base_url", "model", "batch", "full"),
    [
        ("openai-compatible", "https://api.moonshot.ai/v1", "kimi-k2.5", UNKNOWN, (0.6, 0.1, 3.0)),
        ("openai-compatible", "https://api.doubleword.ai/v1", "Qwen/Qwen3-14B-FP8", UNKNOWN, "listed"),
        ("openai-compatible", "https://api.parasail.io/v1", "openai/gpt-oss-120b", UNKNOWN, UNKNOWN),
        ("openai-compatible", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "listed", "listed"),
        ("openai", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "listed", "listed"),
        ("openai", "https://api.groq.com/openai/v1", "gpt-4.1", UNKNOWN, UNKNOWN),
        ("openai", "https://proxy.example.com/v1", "gpt-4.1", "listed", "listed"),
        ("fanout", "https://api.openai.com/v1", "gpt-4.1", "listed", "listed"),
    ],
)
def test_an_address_that_is_known_says_whose_prices_hold(
    *, kind: str, base_url: str, model: str, batch: object, full: object, prices: Prices, tmp_path: Path
) -> None:
    """The company at the address goes before the company the kind is named after; a proxy's address says nothing."""
    found = both(prices, configured(kind, tmp_path, base_url=base_url), model)

    for expected, price in zip((batch, full), found, strict=True):
        assert price is not None if expected == "listed" else price == expected


def test_anthropics_batch_discount_covers_writes_to_the_cache(prices: Prices, tmp_path: Path) -> None:
    """A written token is dearer than a plain one, and half as dear in a batch."""
    provider = configured("anthropic", tmp_path)
    batch = prices.price(provider.table, "claude-haiku-4-5", batch=True)
    full = prices.price(provider.table, "claude-haiku-4-5", batch=False)
    usage = Usage(input=1_000_000, written=1_000_000)

    assert (cost(batch, usage), cost(full, usage)) == (pytest.approx(0.625), pytest.approx(1.25))


@pytest.mark.parametrize("kind", ["gemini", "vertex"])
def test_geminis_long_prompts_have_a_dearer_batch_price(kind: str, prices: Prices, tmp_path: Path) -> None:
    """Above 200,000 input tokens every token of the line costs the second tier's batch price."""
    provider = configured(kind, tmp_path)
    price = prices.price(provider.table, "gemini-2.5-pro", batch=True, address=provider.price_address)

    assert cost(price, Usage(input=200_000, output=10)) == pytest.approx((200_000 * 0.625 + 10 * 5) / 1e6)
    assert cost(price, Usage(input=200_001, output=10)) == pytest.approx((200_001 * 1.25 + 10 * 7.5) / 1e6)


@pytest.mark.parametrize("kind", ["azure", "groq", "kluster", "together", "openai"])
def test_configured_prices_go_before_any_list(kind: str, prices: Prices, tmp_path: Path) -> None:
    """What the operator says of a pattern is what batches of it cost, whatever a list says or does not say."""
    plain = configured(kind, tmp_path)
    rate = TokenPrices(input=0.1, cached=0.05, output=0.4)
    table = ProviderTable(name="p", kind=kind, settings=plain.table.settings, prices={"*gpt*": rate})

    for model in ("gpt-4.1", "openai/gpt-oss-120b", "my-gpt-deployment"):
        assert rates(prices.price(table, model, batch=True, address=plain.price_address)) == (0.1, 0.05, 0.4)


def test_a_server_without_batches_costs_its_own_price(prices: Prices, tmp_path: Path) -> None:
    """`fanout`: the list's full price where the address has one, else the configured one, else unknown; never a batch's."""
    local, openai = configured("fanout", tmp_path), configured("fanout", tmp_path, base_url="https://api.openai.com/v1")
    rate = TokenPrices(input=0.1, cached=0.1, output=0.4)
    own = ProviderTable(name="p", kind="fanout", settings=local.table.settings, prices={"llama*": rate})

    assert prices.single_price(local.table, "llama", batches=False) is None
    assert rates(prices.single_price(openai.table, "gpt-4.1", batches=False)) == (2.0, 0.5, 8.0)
    assert rates(prices.single_price(own, "llama-3", batches=False)) == (0.1, 0.1, 0.4)
