"""Results that stand inside a job: found row by row, and fetched again where the job was cut."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistral_lab import JSON

from gateway import Retryable
from gateway_mistral.outputs import rows_within


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=5), JSON, st.booleans())
def test_rows_are_found_within_a_job(outputs: list[dict[str, object]], other: object, pretty: bool) -> None:
    """The elements of `outputs` come out one by one, whatever stands beside and within them."""
    job = {"id": "outputs", "metadata": {"outputs": [{"not": "this"}], "x": other}, "outputs": outputs, "z": other}
    text = orjson.dumps(job, option=orjson.OPT_INDENT_2 if pretty else 0)
    rows = list(rows_within(text))

    assert [orjson.loads(row) for row in rows] == outputs
    assert not any(b"\n" in row for row in rows)


@pytest.mark.parametrize("job", [b'{"outputs":null}', b'{"id":"x"}', b'{"outputs":[]}'])
def test_a_job_may_have_no_rows(job: bytes) -> None:
    """Without the list there are no rows."""
    assert list(rows_within(job)) == []


@pytest.mark.parametrize("job", [b"", b"oops", b'{"outputs":[{"a":1}', b'{"outputs":[{"a":1},{"b":"'])
def test_a_job_that_was_cut_is_fetched_again(job: bytes) -> None:
    """What does not end as JSON does is no job."""
    with pytest.raises(Retryable):
        list(rows_within(job))
