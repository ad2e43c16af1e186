"""Files between a provider and the disk: whole or not there, every row ended, and never in memory as a whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Missing, Retryable
from gateway.testing import FakeClock, QuickClock
from gateway.transfers import PIECE_BYTES, append_files, append_rows, end_row, opened, result_file, until_usable


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A body as it comes."""
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("bodies", "whole"),
    [
        ([[b"a\n"], [b"b\n"]], b"a\nb\n"),
        ([[b"a"], [b"b"]], b"a\nb\n"),
        ([[b"a\nb", b""], [b"c"]], b"a\nb\nc\n"),
        ([[b"a", b"\n"], [b""], []], b"a\n"),
        ([[], [b"b"]], b"b\n"),
        ([[b""]], b""),
        ([[b"\n\n"]], b"\n\n"),
        ([["a\u2028b".encode()], [b"\xff\r"]], "a\u2028b\n".encode() + b"\xff\r\n"),
        ([[b"x" * (PIECE_BYTES + 1), b"y"]], b"x" * (PIECE_BYTES + 1) + b"y\n"),
    ],
)
async def test_files_stand_one_behind_the_other(
    tmp_path: Path, bodies: Sequence[Sequence[bytes]], whole: bytes
) -> None:
    """Bytes are kept as they came, and no row runs into the first of the next file; an empty file adds nothing."""
    with result_file(tmp_path / "rows") as target:
        for body in bodies:
            await append_rows(pieces(*body), target)

    assert (tmp_path / "rows").read_bytes() == whole


@given(files=st.lists(st.lists(st.sampled_from([b"row\n", b"ro", b"w", b"\n", b""]), max_size=5), max_size=4))
async def test_rows_of_any_pieces_are_ended(tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]]) -> None:
    """However a body is cut on its way, each file is as it was, and ends in a newline unless it is empty."""
    to = tmp_path_factory.mktemp("rows") / "rows"
    with result_file(to) as target:
        for file in files:
            await append_rows(pieces(*file), target)
    bodies = [b"".join(file) for file in files]

    assert to.read_bytes() == b"".join(body if body.endswith(b"\n") or not body else body + b"\n" for body in bodies)


@pytest.mark.parametrize("error", [Retryable("cut"), OSError("full"), KeyboardInterrupt()])
async def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Half a file never passes for a whole one, also where one stood before."""
    to = tmp_path / "rows"
    to.write_bytes(b"old\n")

    async def cut() -> AsyncIterator[bytes]:
        yield b"a\n"
        raise error

    with pytest.raises(type(error)), result_file(to) as target:
        await append_rows(cut(), target)
    assert list(tmp_path.iterdir()) == []


async def test_a_large_download_costs_no_memory(tmp_path: Path) -> None:
    """What is held at once is a few pieces, however many there are."""

    async def large() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(PIECE_BYTES)

    tracemalloc.start()
    with result_file(tmp_path / "rows") as target:
        await append_rows(large(), target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "rows").stat().st_size == 100 * PIECE_BYTES + 1
    assert peak < 8 * PIECE_BYTES


def test_rows_that_somebody_else_wrote_are_ended(tmp_path: Path) -> None:
    """An SDK that writes the file itself leaves it at its end: one newline more, if there is need of one."""
    for content, whole in ((b"", b""), (b"a", b"a\n"), (b"a\n", b"a\n")):
        with result_file(tmp_path / "rows") as target:
            target.write(content)
            end_row(target)
            end_row(target)
        assert (tmp_path / "rows").read_bytes() == whole


def test_a_spool_is_read_from_a_handle(tmp_path: Path) -> None:
    """What is opened for an SDK gives bytes, and cannot be written."""
    (tmp_path / "spool").write_bytes(b"a\r\n")
    with opened(tmp_path / "spool") as spool:
        assert spool.read() == b"a\r\n"
        assert not spool.writable()


async def test_a_file_is_waited_for() -> None:
    """While the provider reads a file it is looked at ever more seldom, and what it then looks like comes back."""
    clock, looks = QuickClock(), []

    async def look() -> int:
        looks.append(clock.monotonic())
        return len(looks)

    start = clock.monotonic()
    file = await until_usable(
        0, look, pending=lambda file: "being read" if file < 7 else None, clock=clock, wait_seconds=60
    )

    assert file == 7
    assert [at - start for at in looks] == [0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]


async def test_nobody_waits_for_ever() -> None:
    """A file that is not read in time is uploaded again, later: an upload costs nothing."""
    clock = QuickClock()
    start = clock.monotonic()

    async def look() -> str:
        return "pending"

    with pytest.raises(Retryable, match="still pending"):
        await until_usable("pending", look, pending=str, clock=clock, wait_seconds=20)
    assert clock.monotonic() - start <= 20


async def test_a_file_that_is_usable_is_not_looked_at() -> None:
    """Where the upload's own answer says that the file is ready, nothing more is asked."""

    async def look() -> str:
        raise AssertionError

    assert await until_usable("ok", look, pending=lambda _: None, clock=FakeClock(), wait_seconds=0) == "ok"


async def test_a_file_that_is_gone_behind_one_that_came_is_passed_over(tmp_path: Path) -> None:
    """Of several result files the first must be there, and whatever else fails is told; what came before stays."""

    async def fetched(*names: str | None) -> bytes:
        with result_file(tmp_path / "rows") as target:

            async def download(name: str) -> None:
                if name in failures:
                    raise failures[name]
                await append_rows(pieces(name.encode()), target)

            await append_files(names, download)
        return (tmp_path / "rows").read_bytes()

    failures = {"gone": Missing("404"), "cut": Retryable("cut")}

    assert await fetched("a", "gone", "b") == b"a\nb\n"
    assert await fetched(None, "a", None) == b"a\n"
    assert await fetched() == b""
    with pytest.raises(Missing):
        await fetched(None, "gone", "b")
    with pytest.raises(Retryable):
        await fetched("a", "cut")
