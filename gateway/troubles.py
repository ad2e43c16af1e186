"""How long trouble with a batch is borne, and how it is told: pauses, deadlines, and the words for a log or a parked batch.

Floor 3. Pure. What the pipeline's steps agree on when a provider, its plugin or our own disk fails.
"""

from __future__ import annotations

import re

from gateway.errors import BatchwayError, LedgerError, PluginFault, Retryable
from gateway.logs import words_of
from gateway.records import BatchState
from gateway.store.shipping import BatchRow

#: A batch whose provider is gone, or whose plugin misbehaves, is looked at again after this long.
PARK_SECONDS = 300.0
#: Between two tries to give a claim back to a ledger that cannot write.
LEDGER_PAUSE_SECONDS = 2.0
#: So many lost calls in a row are no reason yet to call a batch parked, which takes it out of its lane's reckoning.
HITCHES = 3
#: A provider that asks to be left alone is, for so long at most: error pages of a proxy ask for a day, and callers wait.
LONGEST_WISH_SECONDS = 3_600.0
#: After so many in a row, which with their pauses take the better part of an hour, a batch whose time is over is given up: a
#: gateway that was off for days, and starts before its network does, must not take the first minute for the last.
LOST_TROUBLES = 15
#: How the reason begins for which a batch is parked that went missing together with all others. It is read again: such a
#: batch is not sent again until one of them is seen, so no other reason takes its place.
OUT_OF_SIGHT = "every open batch of the account is missing: check key, project and base_url"
#: Why results are not fetched now.
NO_ROOM = "the disk is nearly full: the results stay at the provider until there is room"
#: A remote batch that is older than its window and this is cancelled by us: some providers never end one.
OVERDUE_SECONDS = 86_400.0


def deadline(batch: BatchRow, window_seconds: float, give_up_hours: float) -> float:
    """When a batch that was sent is given up: `give_up_hours` after the provider should have ended it, or has."""
    if batch.ended_at is not None:
        return batch.ended_at + OVERDUE_SECONDS + give_up_hours * 3600
    sent = batch.submitted_at if batch.submitted_at is not None else batch.last_sent_at
    return (batch.sealed_at if sent is None else sent) + window_seconds + OVERDUE_SECONDS + give_up_hours * 3600


def is_out_of_sight(batch: BatchRow) -> bool:
    """Whether a batch in doubt went missing together with all others of its account, none of which has been seen since."""
    return batch.state is BatchState.RECONCILING and (batch.parked_reason or "").startswith(OUT_OF_SIGHT)


def backoff(troubles: int, first: float, longest: float) -> float:
    """A pause that doubles with each trouble in a row."""
    return min(longest, first * 2.0 ** min(troubles, 20))


def pause_after(error: Exception, troubles: int, first: float, longest: float) -> float:
    """How long a batch is left alone whose call failed: longer each time, or as its provider asks, up to an hour.

    For calls that create nothing: what is asked of creates is waited for in full, by the account's breaker.
    """
    wish = error.retry_after if isinstance(error, Retryable) else None
    return max(min(wish or 0.0, LONGEST_WISH_SECONDS), backoff(troubles, first, longest))


def of_the_disk(error: Exception) -> bool:
    """Whether the ledger or a file could not be read or written; a plugin's own errors are told by class."""
    return isinstance(error, LedgerError) or (isinstance(error, OSError) and error.errno is not None)


def unquoted(reason: str) -> str:
    """A refusal for the log: without the provider's own words, which may quote the request that they are about."""
    told = re.match(r"(?:[a-z ]+: )?status \d{3}", reason)
    return told[0] if told else f"{len(reason)} characters, told to whose request it was"


def trouble(error: Exception) -> str:
    """What went wrong in a call, for a log or a parked batch; of a bug only what it is called: its words may quote anything."""
    if isinstance(error, PluginFault):
        return str(error)
    return f"{type(error).__name__}: {error}" if isinstance(error, BatchwayError) else words_of(error)
