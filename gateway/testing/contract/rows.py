"""`frame` and `decode`: pure, and ready for anything that a provider sends."""

from __future__ import annotations

import json
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gateway.provider import Provider
from gateway.records import MARKER_ALPHABET, MARKER_LENGTH, Result, line_id
from gateway.testing.contract.base import ContractBase
from gateway.testing.contract.samples import TEXTS, damaged, json_values
from gateway.testing.lab import Lab

_MARKERS = st.text(MARKER_ALPHABET, min_size=MARKER_LENGTH, max_size=MARKER_LENGTH)


class RowsContract(ContractBase):
    """What `frame` and `decode` promise."""

    def test_a_frame_is_one_line_with_its_name(self, provider: Provider) -> None:
        """Under any line id a payload becomes one line of JSON that holds the id, the same one each time."""
        payload = provider.encode(self.call(self.body(TEXTS[2])))

        @settings(deadline=None, database=None, max_examples=100)
        @given(_MARKERS, st.integers(min_value=0, max_value=999_999))
        def frame(marker: str, n: int) -> None:
            name = line_id(marker, n)
            line = provider.frame(name, payload)
            assert line == provider.frame(name, payload), "frame is not deterministic"
            assert b"\n" not in line, "frame's bytes contain a newline: they would be two lines"
            assert name in _texts(orjson.loads(line)), f"frame's line does not carry the id {name}"

        frame()

    def test_decode_never_raises_on_bytes(self, provider: Provider) -> None:
        """Any bytes at all decode to a result that makes sense."""
        _exhaust(provider, st.binary(max_size=200))

    def test_decode_never_raises_on_json(self, provider: Provider) -> None:
        """Any JSON at all decodes to a result that makes sense."""
        _exhaust(provider, json_values().map(_bytes_of))

    @pytest.mark.asyncio
    async def test_decode_never_raises_on_damaged_rows(self, batches: Lab) -> None:
        """Rows of a real batch, good ones and bad ones, with any value of them changed or gone, decode to sense."""
        bodies = [self.body("good"), self.body("bad [sandbox: status=400]"), self.body("busy [sandbox: status=500]")]
        rows = [orjson.loads(row) for row in await batches.rows(await batches.run(*bodies))]

        _exhaust(batches.provider, damaged(rows).map(_bytes_of), max_examples=300)

    @pytest.mark.asyncio
    async def test_decode_is_pure(self, batches: Lab) -> None:
        """One row decodes to the same result again and again."""
        for row in await batches.rows(await batches.run(self.body("a"), self.body("b"))):
            assert batches.provider.decode(row) == batches.provider.decode(row), "decode is not deterministic"


def check_result(result: Result) -> None:
    """What holds of every result, whatever the row was."""
    returned: object = result
    assert isinstance(returned, Result), "decode must return a gateway.Result"
    assert result.line_id is None or isinstance(result.line_id, str), f"line_id is {result.line_id!r}"
    assert type(result.status) is int, f"status is {result.status!r}, no number"
    if result.body is not None:
        assert result.status == 200, f"a result with an answer has status {result.status}"
        assert not result.retriable, "a result with an answer is called retriable"
        orjson.dumps(result.body)
    else:
        assert result.retriable or result.error is not None, "a result has no answer, no error, and is final"
    if result.error is not None:
        texts: tuple[object, ...] = (result.error.message, result.error.type)
        assert all(isinstance(text, str) and text for text in texts), f"an error without words: {result.error}"


def _exhaust(provider: Provider, rows: SearchStrategy[bytes], max_examples: int = 200) -> None:
    @settings(deadline=None, database=None, max_examples=max_examples)
    @given(rows)
    def decode(row: bytes) -> None:
        check_result(provider.decode(row))

    decode()


def _bytes_of(value: object) -> bytes:
    """As JSON, numbers beyond 64 bits too."""
    return json.dumps(value).encode()


def _texts(value: object) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return {value}
    children: Iterable[object] = ()
    if isinstance(value, dict):
        children = value.values()
    elif isinstance(value, list):
        children = value
    return {text for child in children for text in _texts(child)}
