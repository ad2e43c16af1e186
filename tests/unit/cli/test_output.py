"""Lists as people and programs get them."""

from __future__ import annotations

import json

import pytest

from gateway.cli.output import Column, dollars, moment, show_list

COLUMNS: list[Column[str]] = [
    Column(heading="name", cell=str),
    Column(heading="length", cell=lambda row: str(len(row))),
]


def show(rows: list[str], *, as_json: bool = False) -> None:
    """Print a list of texts."""
    show_list(rows, COLUMNS, lambda row: {"name": row}, as_json=as_json)


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is one line a row and nothing is cut or wrapped."""
    show(["a", "b" * 300])

    assert capsys.readouterr().out.splitlines() == [
        f"{'name':<300}  length",
        f"{'a':<300}  1",
        f"{'b' * 300}  300",
    ]


def test_programs_get_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json even an empty list is a JSON array."""
    show([], as_json=True)
    nothing = json.loads(capsys.readouterr().out)
    show(["a"], as_json=True)

    assert (nothing, json.loads(capsys.readouterr().out)) == ([], [{"name": "a"}])


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in what a caller wrote are not printed as they are."""
    show(["\x1b[2Jgone\rback\x07"])

    assert not set("\x1b\r\x07") & set(capsys.readouterr().out)


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, text that looks like markup is shown as it is."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(["[red]x[/red]"])

    assert "[red]x[/red]" in capsys.readouterr().out


def test_money_and_time_say_when_they_are_unknown() -> None:
    """An unknown price is never shown as a number, and an absent time is a dash."""
    assert (dollars(None), dollars(0.000123), dollars(1234.5)) == ("unknown", "$0.000123", "$1,234.50")
    assert (moment(None), moment(0.0)) == ("-", "1970-01-01 00:00:00Z")
