"""Who is calling: nobody without a key sees anything, and one client is never another."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Client
from gateway.endpoints.keys import TOKEN_FILE, Caller, Keyring, operator_token
from gateway.errors import LedgerError, Refusal

TOKEN = "operator-secret"


def client(name: str, key: str) -> Client:
    """A client as the configuration has it."""
    return Client(name=name, key_hash=hashlib.sha256(key.encode()).digest())


CLIENTS = (client("team-a", "key-a"), client("team-b", "key-b"))


def refused(keyring: Keyring, authorization: str | None) -> str:
    """The message of the 401."""
    with pytest.raises(Refusal) as raised:
        keyring.caller(authorization)
    assert (raised.value.code, raised.value.rule.status) == ("invalid_api_key", 401)
    return raised.value.message


@pytest.mark.parametrize(("key", "name"), [("key-a", "team-a"), ("key-b", "team-b")])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer  "])
def test_a_key_is_its_client(scheme: str, key: str, name: str) -> None:
    """Each key names its own client, however the scheme is written."""
    assert Keyring(CLIENTS, TOKEN).caller(scheme + key) == Caller(client=name)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "key-a",
        "Bearer key-c",
        "Bearer key-a2",
        "Bearer KEY-A",
        "Bearer key-a key-b",
        "Basic key-a",
        "Basic a2V5LWE6",
        "Token key-a",
        "Bearerkey-a",
        "Bearer\tkey-a",
        "Bearer ké-a",
        "Bearer \udcff",
    ],
)
def test_missing_and_wrong_keys_are_refused_alike(authorization: str | None) -> None:
    """Whatever is wrong with the key the answer is the same, and says nothing of the key."""
    message = refused(Keyring(CLIENTS, TOKEN), authorization)
    assert message == refused(Keyring(CLIENTS, TOKEN), None)
    assert "key-a" not in message


@pytest.mark.parametrize("authorization", [None, "", "Bearer anything", "Basic x", "Bearer \udcff"])
def test_without_clients_everybody_is_one_client(authorization: str | None) -> None:
    """No clients configured: no key is asked, and any that comes (SDKs always send one) is as good as none."""
    assert Keyring((), TOKEN).caller(authorization) == Caller(client="")


@pytest.mark.parametrize("clients", [(), CLIENTS])
def test_the_operators_token_is_the_operator(clients: tuple[Client, ...]) -> None:
    """The token steers the gateway, with or without clients; as another scheme it is nothing."""
    assert Keyring(clients, TOKEN).caller(f"Bearer {TOKEN}").operator
    if clients:
        refused(Keyring(clients, TOKEN), f"Basic {TOKEN}")


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Basic x"])
@pytest.mark.parametrize("clients", [(), CLIENTS])
def test_an_empty_token_is_nobodys(authorization: str | None, clients: tuple[Client, ...]) -> None:
    """A token file that lost its content makes nobody an operator."""
    keyring = Keyring(clients, "")
    if clients:
        refused(keyring, authorization)
    else:
        assert not keyring.caller(authorization).operator


def test_an_empty_client_key_is_nobodys() -> None:
    """A client whose key came out empty is not everybody."""
    refused(Keyring((client("team-a", ""),), TOKEN), None)
    refused(Keyring((client("team-a", ""),), TOKEN), "Bearer ")


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check compares all hashes, first match or not, with the comparison that tells nothing by its time."""
    seen: list[bytes] = []

    def compare(left: bytes, right: bytes) -> bool:
        seen.append(right)
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keyring = Keyring(CLIENTS, TOKEN)
    keyring.caller("Bearer key-a")
    assert {each.key_hash for each in CLIENTS} <= set(seen)


@given(st.text(max_size=40))
def test_no_header_but_the_right_one_opens(authorization: str) -> None:
    """Random headers are nobody: refused, and never a failure of ours."""
    refused(Keyring(CLIENTS, TOKEN), authorization)


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Negotiate", "bearerx"])
def test_a_key_in_another_scheme_is_none(scheme: str) -> None:
    """What is right behind `Bearer` is nothing behind another word: each scheme has its own reading of what follows."""
    refused(Keyring(CLIENTS, TOKEN), f"{scheme} key-a")
    refused(Keyring(CLIENTS, TOKEN), f"{scheme} {TOKEN}")


def test_the_token_is_made_once_and_the_owners_alone(tmp_path: Path) -> None:
    """The first start makes a token that only the owner can read, the next one finds it."""
    token = operator_token(tmp_path)
    assert len(token) >= 32
    assert (tmp_path / TOKEN_FILE).stat().st_mode & 0o077 == 0
    assert operator_token(tmp_path) == token
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_two_gateways_have_two_tokens(tmp_path: Path) -> None:
    """A token cannot be known beforehand."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert operator_token(tmp_path / "a") != operator_token(tmp_path / "b")


@pytest.mark.parametrize("content", ["", "\n", "   \n"])
def test_an_empty_token_file_is_made_anew(content: str, tmp_path: Path) -> None:
    """A power cut may leave the file empty: the next start makes a token, not a hole."""
    (tmp_path / TOKEN_FILE).write_text(content)
    token = operator_token(tmp_path)
    assert len(token) >= 32
    assert operator_token(tmp_path) == token


def test_a_token_left_readable_half_way_is_not_used(tmp_path: Path) -> None:
    """What a crash left under the temporary name, whoever could read it, does not become the token's file mode."""
    leftover = (tmp_path / TOKEN_FILE).with_suffix(".part")
    leftover.write_text("known")
    leftover.chmod(0o644)
    assert operator_token(tmp_path) != "known"
    assert (tmp_path / TOKEN_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", [TOKEN_FILE, "operator.part"])
def test_a_token_that_cannot_be_had_is_said_so(name: str, tmp_path: Path) -> None:
    """A start without it ends with the file's name and what to do, and no traceback."""
    (tmp_path / name).mkdir()
    with pytest.raises(
        LedgerError, match=rf"{tmp_path / TOKEN_FILE} cannot be read or made \(.*: let this user read it"
    ):
        operator_token(tmp_path)
