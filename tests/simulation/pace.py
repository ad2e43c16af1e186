"""How the simulation makes days into minutes, and chance into a seed."""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
from collections.abc import Iterator
from unittest.mock import patch

import structlog

from gateway.config import TokenPrices
from gateway.pipeline import (
    batcher,
    collector,
    completer,
    discarder,
    families,
    intake,
    janitor,
    poller,
    reconciler,
    submitter,
    waiters,
)

#: Constants of modules: name, the product's value, the simulation's. Ticks are slower than in life, so that events must do
#: their work; all else is quicker, in the same order of size.
PACE = (
    ("TICK_SECONDS", 1.0, 6.0),
    ("TICK_SECONDS", 2.0, 9.0),
    ("TICK_SECONDS", 15.0, 20.0),
    ("SWEEP_SECONDS", 1.0, 15.0),
    ("SWEEP_SECONDS", 0.25, 5.0),
    ("RENEW_SECONDS", 5.0, 10.0),
    ("LEASE_SECONDS", 15.0, 30.0),
    ("PARK_SECONDS", 300.0, 45.0),
    ("PARK_SECONDS", 60.0, 30.0),
    ("DISABLED_SECONDS", 60.0, 30.0),
    ("OVERDUE_SECONDS", 86_400.0, 300.0),
    ("LONGEST_TROUBLE_SECONDS", 300.0, 60.0),
    ("LONGEST_TROUBLE_SECONDS", 600.0, 60.0),
    ("LONGEST_BREAK_SECONDS", 300.0, 60.0),
    ("LONGEST_BACKOFF_SECONDS", 3600.0, 60.0),
    ("TOKEN_PAUSE_SECONDS", 60.0, 10.0),
    ("LONGEST_TOKEN_PAUSE_SECONDS", 3600.0, 60.0),
    ("LOOK_AGAIN_SECONDS", 60.0, 20.0),
    ("ABANDONED_SECONDS", 120.0, 60.0),
    ("REFETCH_SECONDS", (60.0, 900.0), (10.0, 30.0)),
    ("FETCH_SECONDS", 3600.0, 120.0),
    ("UPLOAD_SECONDS", 3600.0, 120.0),
    ("FIND_SECONDS", 300.0, 100.0),
    ("CREATE_SECONDS", 120.0, 60.0),
    ("DISCARD_SECONDS", 120.0, 60.0),
    # So that a batch of a few lines is settled in several commits.
    ("ROWS_AT_ONCE", 500, 2),
    ("LINES_AT_ONCE", 500, 3),
)
_ROOMS = (batcher, collector, completer, discarder, families, intake, janitor, poller, reconciler, submitter, waiters)

PRICES = TokenPrices(input=1.0, cached=1.0, output=2.0)


@contextlib.contextmanager
def in_seeded_time(seed: int, log: list[tuple[str, dict[str, object]]]) -> Iterator[None]:
    """Constants as in `PACE`, secrets and jitter out of `seed`, what is logged in `log`."""
    chance = random.Random(f"secrets {seed}")
    known = structlog.get_config()
    with contextlib.ExitStack() as stack:
        for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("gateway.")]:
            for name, old, new in PACE:
                if getattr(module, name, None) == old and not name.startswith("_"):
                    stack.enter_context(patch.object(module, name, new))
        stack.enter_context(patch.object(secrets, "choice", chance.choice))
        stack.enter_context(
            patch.object(secrets, "token_hex", lambda size=8: f"{chance.getrandbits(8 * size):0{2 * size}x}")
        )
        stack.enter_context(patch.object(poller, "random", random.Random(f"jitter {seed}")))

        def keep(_: object, __: str, event: dict[str, object]) -> dict[str, object]:
            log.append((str(event.pop("event")), event))
            raise structlog.DropEvent

        structlog.configure(processors=[keep], cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**known)
