"""What becomes of a line, and of a batch that was refused, and in which words its caller hears of it. Pure.

Floor 3. In: what the provider said. Out: records for the ledger. `lines` and `batches` are the policy, `words` what endings
say.
"""

from __future__ import annotations

from gateway.endings.batches import Dissolution, dissolution
from gateway.endings.lines import Judged, Pricing, refused, settle, settle_by, whole
from gateway.endings.words import Way, cancelled, failure

__all__ = [
    "Dissolution",
    "Judged",
    "Pricing",
    "Way",
    "cancelled",
    "dissolution",
    "failure",
    "refused",
    "settle",
    "settle_by",
    "whole",
]
