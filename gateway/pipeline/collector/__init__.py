"""Fetch what an ended batch came to, settle every line, wake whoever waits.

Takes batches in `ended`, leaves them in `collected` and their requests in an ending, or `queued` again. If the
process dies half-way, the lines settled so far are settled (each once: they are keyed by batch and place) and the
rest is read again.

`collecting` is the way of one batch, and the place to begin; `fetching` brings its rows on disk, `reading` says which lines they
name, `settling` makes endings of them.
"""

from __future__ import annotations

from gateway.pipeline.collector.collecting import Collector

__all__ = ["Collector"]
