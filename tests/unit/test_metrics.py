"""Metrics count, render, and know what they mean."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics


def values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """What is rendered: (name, label values in order) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_what_is_counted_is_rendered() -> None:
    """Counters with and without labels, gauges and histograms show in Prometheus' text."""
    metrics = Metrics()
    metrics.requests_accepted.of("openai").inc()
    metrics.requests_accepted.of("openai").inc()
    metrics.requests_ended.of("openai", "succeeded").inc(3)
    metrics.waiters.set(12)
    metrics.cost_usd.of("openai").inc(0.25)
    metrics.commit_size.observe(40)
    rendered = values(metrics)

    assert rendered["batchway_requests_accepted_total", ("openai",)] == 2
    assert rendered["batchway_requests_ended_total", ("openai", "succeeded")] == 3
    assert rendered["batchway_waiters", ()] == 12
    assert rendered["batchway_cost_usd_total", ("openai",)] == 0.25
    assert rendered["batchway_commit_size_sum", ()] == 40


def test_two_gateways_in_a_process_do_not_mix() -> None:
    """Each gateway counts for itself."""
    one, other = Metrics(), Metrics()
    one.polls.of("openai", "running").inc()

    assert ("batchway_polls_total", ("openai", "running")) in values(one)
    assert ("batchway_polls_total", ("openai", "running")) not in values(other)


def test_every_metric_is_described() -> None:
    """The description has every metric there is, by the name it is rendered with, with its type, labels and a meaning."""
    metrics = Metrics()
    families = re.findall(r"^# TYPE (\S+) (\w+)$", metrics.render().decode(), re.MULTILINE)
    described = {each.name: each.type for each in metrics.describe()}

    assert {name: kind for name, kind in families if not name.endswith("_created")} == described
    assert all(each.meaning for each in metrics.describe())
    assert all(set(each.labels) <= {"provider", "state", "outcome", "reason", "code"} for each in metrics.describe())
