"""Accept a call: recognise it, or record it durably.

Takes calls that are parsed; leaves requests in `queued`, or the caller with a stored ending. If the process dies
half-way, either the commit was not done and nothing was accepted, or the request is queued and the caller's retry
finds it by name or fingerprint.

`accepting` is the way of one call, and the place to begin; `recognising` finds what is there already, `gathering` commits
what arrives together.
"""

from __future__ import annotations

from gateway.pipeline.intake.accepting import Accepted, Incoming, Intake

__all__ = ["Accepted", "Incoming", "Intake"]
