"""What the demonstration came to: from the gateway's ledger, and from the simulated provider's own."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cli.output import dollars
from gateway.records import BatchState
from gateway.sandbox import Submissions
from gateway.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The bill. Money in USD; None: some of it is unknown."""

    requests: int
    batches: int
    #: As the provider counted them.
    lines: int
    #: Questions that were in more than one accepted batch, or twice in one.
    repeated: int
    cost_usd: float | None
    saved_usd: float | None
    wasted_usd: float

    @property
    def synchronous_usd(self) -> float | None:
        """What the same answers would have cost one by one."""
        return None if self.cost_usd is None or self.saved_usd is None else self.cost_usd + self.saved_usd


async def totals(ledger: Ledger, submissions: Submissions) -> Totals:
    """Add up both ledgers."""
    bills = await ledger.bills.totals()
    batches = await ledger.batches.listed([BatchState.COLLECTED], 10_000)
    unknown = any(bill.unpriced_lines for bill in bills)
    return Totals(
        requests=sum(bill.requests for bill in bills),
        batches=len(batches),
        lines=submissions.accepted_lines,
        repeated=len(submissions.repeated),
        cost_usd=None if unknown else sum(bill.cost_usd for bill in bills),
        saved_usd=None if unknown else sum(bill.saved_usd for bill in bills),
        wasted_usd=sum(bill.wasted_usd for bill in bills),
    )


def bill_lines(bill: Totals) -> list[tuple[str, str]]:
    """The bill for a person, as (what, how much)."""
    saved = dollars(bill.saved_usd)
    if bill.saved_usd is not None and bill.synchronous_usd:
        saved += f" ({bill.saved_usd / bill.synchronous_usd:.0%})"
    return [
        ("requests answered", str(bill.requests)),
        ("batches", str(bill.batches)),
        ("lines the provider was given", str(bill.lines)),
        ("submitted more than once", str(bill.repeated)),
        ("cost", dollars(bill.cost_usd)),
        ("a synchronous run would have cost", dollars(bill.synchronous_usd)),
        ("saved", saved),
        ("wasted", dollars(bill.wasted_usd)),
    ]
