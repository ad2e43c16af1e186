"""What lines cost: prices from the configuration, else from genai-prices, else unknown. Never a guess.

Floor 1. genai-prices answers with the full price where it knows no batch price, without saying so: here such a model
has no batch price. Its price list comes with the package; nothing is fetched.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from gateway.clock import Clock, as_datetime
from gateway.config import ProviderTable, TokenPrices

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
    from genai_prices.types import Provider as PriceList

_MILLION = 1_000_000
#: How genai-prices marks a batch price.
_BATCH = {"processing": "batch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD for one token. `over` has the dearer prices of long prompts, the longest first."""

    input: float
    #: Input tokens read from the provider's prompt cache.
    cached: float
    output: float
    #: Input tokens written to the provider's prompt cache, where that costs extra.
    written: float
    #: These prices hold for all tokens of a line with more input tokens than this.
    above_input_tokens: int = 0
    over: tuple[Price, ...] = ()

    def at(self, input_tokens: int) -> Price:
        """The price of a line with that many input tokens."""
        return next((price for price in self.over if input_tokens > price.above_input_tokens), self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Billed tokens of one line."""

    #: All input tokens, the cached ones among them.
    input: int = 0
    cached: int = 0
    written: int = 0
    #: All output tokens, those of reasoning among them.
    output: int = 0
    #: Tokens of sound, which have prices of their own that are not known here.
    audio: int = 0


def read_usage(usage: object) -> Usage | None:
    """OpenAI's `usage` object, of chat completions or of responses; None where there is none that can be read."""
    if not isinstance(usage, Mapping):
        return None
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    if input_tokens is None and output_tokens is None:
        return None
    details = _details(usage, "prompt_tokens_details", "input_tokens_details")
    out_details = _details(usage, "completion_tokens_details", "output_tokens_details")
    total = input_tokens or 0
    cached = min(_count(details, "cached_tokens") or 0, total)
    return Usage(
        input=total,
        cached=cached,
        written=min(_count(details, "cache_write_tokens") or 0, total - cached),
        output=output_tokens or 0,
        audio=(_count(details, "audio_tokens") or 0) + (_count(out_details, "audio_tokens") or 0),
    )


def cost(price: Price | None, usage: Usage | None) -> float | None:
    """USD, exact to about 15 digits; None where price or usage is unknown, or sound was billed."""
    if price is None or usage is None or usage.audio:
        return None
    rate = price.at(usage.input)
    plain = usage.input - usage.cached - usage.written
    return plain * rate.input + usage.cached * rate.cached + usage.written * rate.written + usage.output * rate.output


class Prices:
    """Looks prices up. Ask once for a batch, not for every line: some 50 microseconds, the first time 0.2 s."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Held while the list is loaded; to be held by whoever else imports much in a thread, as SDKs: they share modules.
        self.loading = threading.Lock()
        self._loaded: DataSnapshot | None = None

    def single_price(self, table: ProviderTable, model: str, *, batches: bool, address: str = "") -> Price | None:
        """What a token of `model` costs when it is asked by itself; `batches`: whether the provider has them.

        Where it has none, prices in the configuration are what its calls cost.
        """
        if not batches:
            for pattern, rates in table.prices.items():
                if fnmatch.fnmatchcase(model, pattern):
                    return _configured(rates)
        return self.price(table, model, batch=False, address=address)

    def price(self, table: ProviderTable, model: str, *, batch: bool, address: str = "") -> Price | None:
        """What a token of `model` costs at this provider now, in a batch or (`batch=False`) asked for at once.

        `address` is the base URL that the kind falls back on. Prices in the configuration are batch prices and come
        first. None: unknown.
        """
        if batch:
            for pattern, rates in table.prices.items():
                if fnmatch.fnmatchcase(model, pattern):
                    return _configured(rates)
        prices = self._price_list(table, address)
        found = prices.find_model(model) if prices is not None else None
        return None if found is None else _listed(found, as_datetime(self._clock.now()), batch=batch)

    def models(self, table: ProviderTable, *, address: str = "") -> list[str]:
        """Names of the models of this provider that have a batch price now, and are not about to go.

        One whose output costs nothing puts out nothing to read: it makes embeddings.
        """
        now = as_datetime(self._clock.now())
        prices = self._price_list(table, address)
        models = prices.models if prices is not None else []
        named = [model for model in models if not model.deprecated and not _is_family(model.id)]
        priced = ((model.id, _listed(model, now, batch=True)) for model in named)
        return [name for name, price in priced if price is not None and price.output]

    def _price_list(self, table: ProviderTable, address: str) -> PriceList | None:
        """The list of the company behind a table: at the address it gives, else named as its kind, else at the kind's.

        Names must be equal: a server that is merely shaped like a company's has prices of its own.
        """
        snapshot = self._loaded or self._load()
        named = next((prices for prices in snapshot.providers if prices.id == table.kind), None)
        own = None if table.sandbox else table.settings.get("base_url")
        return _list_at(snapshot, own) or named or _list_at(snapshot, address)

    def _load(self) -> DataSnapshot:
        with self.loading:
            from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s that a start need not wait for

            self._loaded = get_snapshot()
        return self._loaded


def _list_at(snapshot: DataSnapshot, base_url: object) -> PriceList | None:
    try:
        return snapshot.find_provider(None, None, base_url) if isinstance(base_url, str) and base_url else None
    except LookupError:
        return None


def _is_family(name: str) -> bool:
    """Whether an entry stands for many models, like everybody's fine-tuned ones, and its name is none to ask for."""
    return ":" in name or name.endswith("-")


def _listed(model: ModelInfo, now: datetime, *, batch: bool) -> Price | None:
    """What the list says of `model`; None where it says nothing, or nothing of batches when asked for them."""
    rates = model.get_prices(now, _BATCH if batch else None)
    if batch and not _has_batch_price(model, now):
        return None
    if rates.input_mtok is None:
        return None
    starts = {tier.start for rate in rates.__dict__.values() for tier in getattr(rate, "tiers", ())}
    return _at(rates, 0, tuple(_at(rates, start) for start in sorted(starts, reverse=True)))


def _has_batch_price(model: ModelInfo, now: datetime) -> bool:
    """Whether a batch variant is in force; an empty one says that batches cost the full price."""
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(now))
        for variant in model.price_variants or ()
    )


def _at(rates: ModelPrice, start: int, over: tuple[Price, ...] = ()) -> Price:
    """The prices of a line with more than `start` input tokens. What has no price of its own is plain input, or free."""
    plain = _rate(rates.input_mtok, start)
    cached, written, output = rates.cache_read_mtok, rates.cache_write_mtok, rates.output_mtok
    return Price(
        input=plain,
        cached=plain if cached is None else _rate(cached, start),
        written=plain if written is None else _rate(written, start),
        output=_rate(output, start),
        above_input_tokens=start,
        over=over,
    )


def _rate(rate: Decimal | TieredPrices | None, start: int) -> float:
    """USD for one token at the tier that begins at `start`."""
    if rate is None:
        return 0.0
    if isinstance(rate, Decimal):
        return float(rate) / _MILLION
    tiers = [tier.price for tier in rate.tiers if tier.start <= start]
    return float(tiers[-1] if start and tiers else rate.base) / _MILLION


def _configured(rates: TokenPrices) -> Price:
    plain = rates.input / _MILLION
    return Price(input=plain, cached=rates.cached / _MILLION, written=plain, output=rates.output / _MILLION)


def _count(table: Mapping[str, object], *names: str) -> int | None:
    """The first of `names` that holds a number of tokens."""
    for name in names:
        value = table.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
            return int(value)
    return None


def _details(table: Mapping[str, object], *names: str) -> Mapping[str, object]:
    """The first of `names` that holds an object, or an empty one."""
    return next((value for name in names if isinstance(value := table.get(name), Mapping)), {})
