"""What the demonstration came to: from the gateway's ledger, and from the simulated providers' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.cli.demo.cast import Part
from gateway.cli.output import dollars
from gateway.records import BatchState
from gateway.sandbox import Submissions
from gateway.store.ledger import Ledger
from gateway.store.shipping import Bill


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The bill, of one provider or of all. Money in USD; None: some of it is unknown."""

    provider: str = ""
    requests: int
    batches: int
    #: As the provider counted them.
    lines: int
    #: Questions that were in more than one accepted batch, or twice in one.
    repeated: int
    cost_usd: float | None
    saved_usd: float | None
    wasted_usd: float
    #: Of `lines`, those that were asked one by one, at the one price there is.
    undiscounted: int = 0

    @property
    def synchronous_usd(self) -> float | None:
        """What the same answers would have cost one by one."""
        return None if self.cost_usd is None or self.saved_usd is None else self.cost_usd + self.saved_usd


async def totals(ledger: Ledger, cast: Sequence[Part], submissions: Mapping[str, Submissions]) -> list[Totals]:
    """Add up both ledgers, by provider."""
    bills = await ledger.bills.totals()
    batches = await ledger.batches.listed([BatchState.COLLECTED], 10_000)
    return [
        _of(
            part,
            [bill for bill in bills if bill.provider == part.kind],
            sum(batch.lane.provider == part.kind for batch in batches),
            submissions[part.kind],
        )
        for part in cast
    ]


def _of(part: Part, bills: Sequence[Bill], batches: int, submitted: Submissions) -> Totals:
    unknown = any(bill.unpriced_lines for bill in bills)
    any_discount = any(bill.undiscounted_lines < bill.lines for bill in bills)
    # Without batches, what was asked twice in a crash is not wrong: such a server cannot be asked what it answered.
    lines = submitted.accepted_lines if part.provider_class.batch else sum(bill.lines for bill in bills)
    return Totals(
        provider=part.kind,
        requests=sum(bill.requests for bill in bills),
        batches=batches,
        lines=lines,
        repeated=len(submitted.repeated),
        cost_usd=None if unknown else sum(bill.cost_usd for bill in bills),
        # Where nothing is discounted, nothing is saved, whatever the price.
        saved_usd=None if unknown and any_discount else sum(bill.saved_usd for bill in bills),
        wasted_usd=sum(bill.wasted_usd for bill in bills),
        undiscounted=sum(bill.undiscounted_lines for bill in bills),
    )


def whole(parts: Sequence[Totals]) -> Totals:
    """All providers together; money is what is known of it, None when nothing is."""
    known = [part for part in parts if part.cost_usd is not None]
    return Totals(
        requests=sum(part.requests for part in parts),
        batches=sum(part.batches for part in parts),
        lines=sum(part.lines for part in parts),
        repeated=sum(part.repeated for part in parts),
        cost_usd=sum(part.cost_usd or 0.0 for part in known) if known else None,
        saved_usd=sum(part.saved_usd or 0.0 for part in known) if known else None,
        wasted_usd=sum(part.wasted_usd for part in parts),
        undiscounted=sum(part.undiscounted for part in parts),
    )


def bill_lines(bill: Totals, unpriced: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The bill for a person, as (what, how much). `unpriced` are the providers whose prices it leaves out."""
    saved = dollars(bill.saved_usd)
    if bill.saved_usd is not None and bill.synchronous_usd:
        saved += f" ({bill.saved_usd / bill.synchronous_usd:.0%})"
    lines = [
        ("requests answered", str(bill.requests)),
        ("batches", str(bill.batches)),
        ("lines the providers were given", str(bill.lines)),
        ("submitted more than once", str(bill.repeated)),
        ("cost", dollars(bill.cost_usd)),
        ("a synchronous run would have cost", dollars(bill.synchronous_usd)),
        ("saved", saved),
        ("wasted", dollars(bill.wasted_usd)),
    ]
    if bill.undiscounted:
        lines.append(("asked one by one: nothing was discounted", str(bill.undiscounted)))
    if unpriced and bill.cost_usd is not None:
        lines.append(("not in these sums, price unknown", ", ".join(unpriced)))
    return lines


def provider_rows(parts: Sequence[Totals]) -> list[tuple[str, ...]]:
    """One row for each provider: name, requests, batches, cost, saved."""
    return [
        (
            part.provider,
            str(part.requests),
            str(part.batches) if part.batches else "one by one",
            dollars(part.cost_usd),
            dollars(part.saved_usd),
        )
        for part in parts
    ]
