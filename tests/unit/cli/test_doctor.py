"""The doctor names what is wrong and what to do, one line each, touches nothing, and repairs only what cannot lose anything."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.checkup.findings import lasting, sized
from gateway.store.lock import DirectoryLock
from gateway.store.sqlite import FILE_NAME, MIGRATIONS, SqliteDatabase
from tests.fixtures.stored import fixture_of, unpack

CONFIG = """
[storage]
directory = "{directory}"
reserve_bytes = 0
min_free_bytes = {min_free_bytes}
[providers.openai]
kind = "openai"
sandbox = true
[providers.keyless]
kind = "openai"
api_key = "${{NOBODY_SETS_THIS}}"
[providers.local]
kind = "fanout"
api_key = "key"
base_url = "http://127.0.0.1:9/v1"
[[routes]]
model = "*"
provider = "openai"
"""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A storage directory with a configuration beside it."""

    directory: Path
    config: Path

    def see(self, *options: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        """The exit status, and the findings by what was looked at."""
        done = CliRunner().invoke(main, ["doctor", "--config", str(self.config), "--json", *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        found: dict[str, list[dict[str, str]]] = {}
        for each in json.loads(done.stdout):
            found.setdefault(each["check"], []).append(each)
        return done.exit_code, found

    def wrong(self, *options: str) -> dict[str, str]:
        """What is wrong, by what was looked at; and the exit status agrees."""
        status, found = self.see(*options)
        problems = {
            check: each["said"] for check, group in found.items() for each in group if each["status"] == "problem"
        }
        assert status == (1 if problems else 0)
        assert all(each["advice"] for group in found.values() for each in group if each["status"] == "problem")
        return problems

    def sql(self, statement: str) -> None:
        """Change the ledger behind everybody's back."""
        with closing(sqlite3.connect(self.directory / FILE_NAME)) as connection:
            connection.execute(statement)
            connection.commit()

    def markers(self, where: str) -> list[str]:
        """Of some batches."""
        with closing(sqlite3.connect(self.directory / FILE_NAME)) as connection:
            return [marker for (marker,) in connection.execute(f"SELECT marker FROM batches WHERE {where} ORDER BY id")]


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A ledger with work in every state, of this schema, sound, that nobody works with."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    unpack(fixture_of(1), directory)
    asyncio.run(SqliteDatabase.open(directory).close())
    for copy in directory.glob("*.before-*"):
        copy.unlink()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(directory=directory, min_free_bytes=0), encoding="utf-8")
    found = Patient(directory=directory, config=config)
    # What stands still in it is another test's business.
    found.sql("UPDATE batches SET parked_reason = NULL, last_sent_at = unixepoch() WHERE state <> 'collected'")
    return found


def test_a_sound_gateway_gets_no_complaint(patient: Patient) -> None:
    """Work in every state is no fault; every check says so in a line, and the exit status is 0."""
    status, found = patient.see()

    assert status == 0
    assert {each["status"] for each in found["ledger"] + found["rows"] + found["totals"] + found["files"]} == {"ok"}
    assert found["schema"][0]["said"].startswith(str(len(MIGRATIONS)))
    assert found["gateway"][0]["advice"] == "batchway serve"
    assert "requests wait to be sent" in found["requests"][0]["said"]
    assert "NOBODY_SETS_THIS" in found["provider keyless"][0]["said"]
    assert "simulated" in found["provider openai"][0]["said"]


def test_it_reads_only(patient: Patient) -> None:
    """Not a byte of the directory is another afterwards, but for what SQLite makes to read a log."""
    before = {path: path.read_bytes() for path in patient.directory.rglob("*") if path.is_file()}
    patient.see()
    after = {path: path.read_bytes() for path in patient.directory.rglob("*") if path.is_file()}

    assert {path: content for path, content in after.items() if not path.name.endswith(("-shm", "-wal"))} == before


def test_lines_are_for_people(patient: Patient) -> None:
    """Without --json: the status, what was looked at, what was found, and after an arrow what to do."""
    lines = CliRunner().invoke(main, ["doctor", "--config", str(patient.config), "--offline"]).stdout.splitlines()

    assert lines[0].split()[:2] == ["ok", "configuration"]
    assert all(line.split()[0] in ("ok", "note", "problem") for line in lines)
    assert any(line.startswith("note     gateway") and line.endswith("-> batchway serve") for line in lines)


def test_a_damaged_ledger_is_named(patient: Patient) -> None:
    """Pages that were written over are found, whatever else can still be read, and what to do is said."""
    path = patient.directory / FILE_NAME
    with path.open("r+b") as file:
        for page in range(4, 40):
            file.seek(page * 8192)
            file.write(os.urandom(4000))

    assert "damaged" in patient.wrong("--offline")["ledger"] or "cannot be read" in patient.wrong("--offline")["ledger"]


@pytest.mark.parametrize("content", [b"", b"no ledger at all"])
def test_a_file_that_is_no_ledger_is_named(content: bytes, patient: Patient) -> None:
    """Another file in its place is left as it is, and said to be none; an empty one is no ledger that lost anything."""
    (patient.directory / FILE_NAME).write_bytes(content)
    problems = patient.wrong("--offline")

    assert ("NOTADB" in problems["ledger"]) if content else ("schema" not in problems)
    assert (patient.directory / FILE_NAME).read_bytes() == content


def test_another_schema_is_named(patient: Patient) -> None:
    """One of a later version is a problem; one of an earlier version is brought up by a start, and is not read before."""
    patient.sql("PRAGMA user_version = 99")
    later = patient.wrong("--offline")
    unpack(fixture_of(1), patient.directory)
    status, earlier = patient.see("--offline")

    assert "99" in later["schema"]
    assert (status, earlier["schema"][0]["status"]) == (0, "note")
    assert f"before-{2}" in earlier["schema"][0]["advice"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "DELETE FROM payloads WHERE seq IN (SELECT seq FROM requests WHERE state = 'queued' AND due = 1)",
            "text is gone",
        ),
        ("DELETE FROM results", "outcome is gone"),
        ("UPDATE batches SET state = 'collected' WHERE state = 'submitted'", "in a batch that is over"),
        ("DELETE FROM lanes", "lane that is gone"),
        ("DELETE FROM requests WHERE due = 2", "parent is gone"),
        ("UPDATE lines SET batch = batch + 900", "batch that is gone"),
        ("UPDATE requests SET state = 'queued' WHERE ended_at IS NOT NULL", "state does not fit"),
    ],
)
def test_rows_that_contradict_each_other_are_named(statement: str, says: str, patient: Patient) -> None:
    """Each rule that rows must keep is looked at."""
    patient.sql(statement)

    assert says in patient.wrong("--offline")["rows"]


def test_wrong_totals_are_named_and_counted_again(patient: Patient) -> None:
    """A lane that counts what is not there is found; --repair counts it again, and everything is well."""
    patient.sql("UPDATE lanes SET due_count = due_count + 7, due_tokens = 0 WHERE due_count > 0")
    problems = patient.wrong("--offline")
    _, repaired = patient.see("--offline", "--repair")

    assert "requests counted" in problems["totals"]
    assert "counted again" in repaired["repaired"][0]["said"]
    assert patient.wrong("--offline") == {}


def test_files_that_nobody_reads_are_named_and_deleted(patient: Patient) -> None:
    """Of batches that are over; what is of an open batch, of one that nobody knows, or not ours, stays."""
    spool = patient.directory / "spool"
    patient.sql("UPDATE batches SET discarded = 1 WHERE state = 'collected'")
    [over, *_] = patient.markers("state = 'collected'")
    [open_one, *_] = patient.markers("state = 'ended'")
    names = {f"{over}.jsonl": "over", f"{over}.rows.part": "over", f"{open_one}.proof": "open"}
    names |= {"abcdefghij0123456789.rows": "unknown", "notes.txt": "somebody's"}
    for name, content in names.items():
        (spool / name).write_text(content, encoding="utf-8")
    (patient.directory / f"{FILE_NAME}.before-9.part").touch()
    problems = patient.wrong("--offline")
    _, found = patient.see("--offline", "--repair")
    left = {name for name in names if (spool / name).exists()}

    assert problems["files"].startswith("3 files that nobody will read")
    assert len(found["repaired"]) == 3
    assert [each["status"] for each in found["files"]] == ["note"]
    assert "paid answers" in found["files"][0]["advice"]
    assert left == {f"{open_one}.proof", "abcdefghij0123456789.rows", "notes.txt"}
    assert patient.wrong("--offline") == {}


def test_nothing_is_repaired_by_a_ledger_that_is_not_sound(patient: Patient) -> None:
    """What a damaged ledger says is over may not be over: no file is deleted."""
    patient.sql("UPDATE batches SET discarded = 1, state = 'collected'")
    file = patient.directory / "spool" / f"{patient.markers('1')[0]}.rows"
    file.touch()
    _, found = patient.see("--offline", "--repair")

    assert "not sound" in found["repaired"][0]["said"]
    assert file.exists()


def test_a_running_gateway_is_not_repaired(patient: Patient) -> None:
    """--repair wants the directory for itself; without it the doctor works beside whoever holds it."""
    with DirectoryLock.acquire(patient.directory):
        refused = CliRunner().invoke(main, ["doctor", "--config", str(patient.config), "--repair"])
        problems = patient.wrong("--offline")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "in use by process" in refused.stderr
    assert f"process {os.getpid()} holds the directory" in problems["gateway"]
    assert set(problems) == {"gateway"}


def test_what_others_may_read_is_named(patient: Patient) -> None:
    """The ledger, the token or the directory itself open to others."""
    (patient.directory / FILE_NAME).chmod(0o644)
    problems = patient.wrong("--offline")

    assert "others may read" in problems["directory"]
    assert FILE_NAME in problems["directory"]


def test_too_little_room_is_named(patient: Patient) -> None:
    """Below min_free_bytes new requests are refused, which is what an operator is told."""
    patient.config.write_text(CONFIG.format(directory=patient.directory, min_free_bytes=1 << 60), encoding="utf-8")

    assert "refused below" in patient.wrong("--offline")["room"]


def test_a_cache_that_cannot_be_read_is_named(patient: Patient) -> None:
    """Nothing is lost with it, and that is said."""
    (patient.directory / "cache").mkdir()
    (patient.directory / "cache" / "cache.db").write_bytes(b"not a database, but long enough" * 100)

    assert "cannot be read" in patient.wrong("--offline")["cache"]


def test_every_mistake_of_the_configuration_is_named(patient: Patient) -> None:
    """As `check` does; the rest is looked at all the same, as long as it is known where that is."""
    with patient.config.open("a", encoding="utf-8") as file:
        file.write('[polling]\nmin_seconds = "often"\n[cachee]\n')
    status, found = patient.see("--offline")
    nowhere = replace(patient, config=patient.directory / "nothing.toml")

    assert status == 1
    assert len(found["configuration"]) == 2
    assert found["ledger"][0]["status"] == "ok"
    assert set(nowhere.wrong("--offline")) == {"configuration"}


def test_batches_that_stand_still_are_named_with_their_age(patient: Patient) -> None:
    """Parked ones with reason and since when; those in doubt as a problem only when the quarantine is long over."""
    patient.sql(
        "UPDATE batches SET parked_reason = 'no such key', parked_since = unixepoch() - 7200 WHERE state = 'sealed'"
    )
    patient.sql("UPDATE batches SET last_sent_at = unixepoch() - 86400 WHERE state = 'reconciling'")
    _, found = patient.see("--offline")
    said = {each["said"]: each["status"] for each in found["batch"]}

    assert any("is parked for 2 h: no such key" in line and status == "problem" for line, status in said.items())
    assert any("not known for 24 h" in line and status == "problem" for line, status in said.items())
    assert any("not known for" in line and status == "note" for line, status in said.items())


def test_no_key_is_repeated(patient: Patient) -> None:
    """What a provider said of a key stands in the ledger with the key in it, and comes out without."""
    patient.sql("UPDATE batches SET parked_reason = 'nobody has a-key-of-ours here' WHERE state = 'sealed'")
    with patient.config.open("a", encoding="utf-8") as file:
        file.write('[providers.third]\nkind = "openai"\napi_key = "a-key-of-ours"\n')
    done = CliRunner().invoke(main, ["doctor", "--config", str(patient.config), "--offline"])

    assert "nobody has [redacted] here" in done.stdout
    assert "a-key-of-ours" not in done.output


def test_disabled_providers_are_named_offline(patient: Patient) -> None:
    """Why one cannot be used is known without asking anybody."""
    _, found = patient.see("--offline")

    assert "set the environment variable NOBODY_SETS_THIS" in found["provider keyless"][0]["said"]
    assert "provider openai" not in found


def test_lanes_that_wait_are_named(patient: Patient) -> None:
    """One that waits for room at its provider is worth a note; one that waits for anything else has to be mended by somebody."""
    patient.sql("UPDATE lanes SET parked_reason = 'token_limit' WHERE due_count > 0")
    _, found = patient.see("--offline")
    patient.sql("UPDATE lanes SET parked_reason = 'provider is not configured' WHERE due_count > 0")

    assert {each["status"] for each in found["lane"]} == {"note"}
    assert "provider is not configured" in patient.wrong("--offline")["lane"]


def test_a_disk_of_nothing_is_no_fault(tmp_path: Path) -> None:
    """Before the first start there is nothing, and nothing is made by looking."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(directory=tmp_path / "data", min_free_bytes=0), encoding="utf-8")
    young = Patient(directory=tmp_path / "data", config=config)

    assert young.wrong() == {}
    assert not young.directory.exists()


def test_times_and_sizes_are_said_as_people_say_them() -> None:
    """With as much as helps."""
    assert [lasting(seconds) for seconds in (-1, 0, 119, 120, 7200, 200_000)] == [
        "0 s", "0 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert [sized(count) for count in (0, 1023, 2048, 5 << 20, 3 << 30)] == [
        "0 bytes", "1023 bytes", "2.0 KB", "5.0 MB", "3.0 GB",
    ]  # fmt: skip
