"""Ask requests one by one where the provider has no batches.

Takes requests in `queued` of lanes whose provider has no batches, the oldest of each lane first; leaves them ended, or
`queued` for a later try. If the process dies half-way, or stops: what was being asked is `queued` under the claim of a
boot that is over, and is asked again, which is counted; at most `concurrency` of each provider.

`serving` shares a provider's free places among its lanes, and is the place to begin; `asking` is the way of one request.
"""

from __future__ import annotations

from gateway.pipeline.completer.serving import Completer

__all__ = ["Completer"]
