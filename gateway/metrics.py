"""The one list of what is counted, and its rendering for Prometheus.

Floor 1. Labels are names from the configuration and words from this file: never a key, a prompt, a custom_id or
anything else a caller writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

PREFIX = "batchway_"

#: What GET /metrics answers with.
CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_GROUP_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SHORT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BATCH_SIZES = (1, 10, 100, 1000, 10_000, 50_000, 100_000)
_TURNAROUND_SECONDS = (10, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)


class Family(Generic[Metric]):
    """One metric in several flavours. `of` is cheap enough for every request: one look-up in a dict."""

    __slots__ = ("_children", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric: Metric = metric
        self._children: dict[tuple[str, ...], Metric] = {}

    def of(self, *labels: str) -> Metric:
        """The one with these label values, in the order of the metric's labels."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self.metric.labels(*labels)
        return child


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `docs/metrics.md` says of one metric."""

    name: str
    #: counter, gauge or histogram.
    type: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """All metrics of one gateway, in a registry of its own: several gateways in one process do not mix.

    A metric with labels is a `Family`: `metrics.requests_accepted.of("openai").inc()`. One without is used as it is.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._described: list[Description] = []
        self._define_requests()
        self._define_batches()
        self._define_calls_and_costs()

    def _define_requests(self) -> None:
        counter, gauge = self._counters, self._gauges
        self.requests_accepted = counter("requests_accepted", "requests recorded durably", "provider")
        self.requests_ended = counter(
            "requests_ended", "requests that ended, by their final state", "provider", "state"
        )
        self.requests_refused = counter("requests_refused", "requests answered with an error at admission", "code")
        self.cache_lookups = counter(
            "cache_lookups", "where unnamed requests found their answer: see outcome", "outcome"
        )
        self.waiters = self._gauge("waiters", "callers held on open connections")
        self.storage_full = self._gauge("storage_full", "1 while the disk is short: new requests are refused")
        self.queued = gauge(
            "queued_requests", "requests waiting to be sealed into a batch, or asked one by one", "provider"
        )

    def _define_batches(self) -> None:
        counter, gauge, histogram = self._counters, self._gauges, self._histograms
        self.batches_sealed = counter(
            "batches_sealed", "batches cut from a window, by what sealed it", "provider", "reason"
        )
        self.batches_submitted = counter("batches_submitted", "batches the provider took", "provider")
        self.batches_collected = counter("batches_collected", "batches whose lines are all settled", "provider")
        self.batches_dissolved = counter("batches_dissolved", "batches whose requests went back", "provider", "reason")
        self.open_batches = gauge(
            "open_batches", "batches that are neither collected nor dissolved", "provider", "state"
        )
        self.batch_lines = counter("batch_lines", "lines settled, by what came of them", "provider", "outcome")
        self.structured_outputs = counter(
            "structured_outputs",
            "answers looked at whose requests asked for JSON or a schema: see structured_outputs",
            "provider",
            "outcome",
        )
        self.batch_size = histogram("batch_size", "lines in a sealed batch", _BATCH_SIZES, "provider")
        self.turnaround = histogram("turnaround_seconds", "from create to end", _TURNAROUND_SECONDS, "provider")
        self.duplicate_batches = counter("duplicate_batches", "remote batches that were there twice", "provider")
        self.unknown_lines = counter("unknown_lines", "result rows that belong to no line of their batch", "provider")
        self.late_lines = counter("late_lines", "result rows of requests that had ended already", "provider")

    def _define_calls_and_costs(self) -> None:
        counter, gauge = self._counters, self._gauges
        self.completions = counter(
            "completions", "calls that asked one request by itself, by how they went", "provider", "outcome"
        )
        self.asked_again = counter(
            "asked_again", "requests asked a second time because a crash or a stop hid the first outcome", "provider"
        )
        self.submissions = counter("submissions", "create calls, by how they went", "provider", "outcome")
        self.polls = counter("polls", "polls of remote batches, by what came back", "provider", "outcome")
        self.fetches = counter("fetches", "downloads of result files, by how they went", "provider", "outcome")
        self.reconciliations = counter(
            "reconciliations", "searches for lost batches, by outcome", "provider", "outcome"
        )

        self.cost_usd = counter("cost_usd", "paid for lines with a known price, in USD", "provider")
        self.saved_usd = counter("saved_usd", "list price less what was paid, in USD", "provider")
        self.wasted_usd = gauge("wasted_usd", "paid for lines nobody could use, in USD, ever", "provider")
        self.unpriced_lines = counter("unpriced_lines", "billed lines of unknown price", "provider")

        self.plugin_faults = counter(
            "plugin_faults", "exceptions out of a plugin that its contract does not name", "provider"
        )
        self.commit_size = self._histogram("commit_size", "arrivals committed together", _GROUP_SIZES)
        self.commit_seconds = self._histogram("commit_seconds", "time until arrivals were durable", _SHORT_SECONDS)
        self.loop_lag_seconds = self._histogram(
            "loop_lag_seconds", "how late the event loop came round", _SHORT_SECONDS
        )

    def render(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> tuple[Description, ...]:
        """Every metric, in the order of definition, for the documentation."""
        return tuple(self._described)

    def _counters(self, name: str, meaning: str, *labels: str) -> Family[Counter]:
        self._describe(f"{name}_total", "counter", meaning, labels)
        return Family(Counter(PREFIX + name, meaning, labels, registry=self._registry))

    def _gauges(self, name: str, meaning: str, *labels: str) -> Family[Gauge]:
        self._describe(name, "gauge", meaning, labels)
        return Family(Gauge(PREFIX + name, meaning, labels, registry=self._registry))

    def _gauge(self, name: str, meaning: str) -> Gauge:
        self._describe(name, "gauge", meaning, ())
        return Gauge(PREFIX + name, meaning, registry=self._registry)

    def _histograms(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Family[Histogram]:
        self._describe(name, "histogram", meaning, labels)
        return Family(Histogram(PREFIX + name, meaning, labels, buckets=buckets, registry=self._registry))

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        self._describe(name, "histogram", meaning, ())
        return Histogram(PREFIX + name, meaning, buckets=buckets, registry=self._registry)

    def _describe(self, name: str, kind: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._described.append(Description(name=PREFIX + name, type=kind, labels=labels, meaning=meaning))
