"""Who is calling: client keys by their hashes, and the operator's token."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.config import Client
from gateway.errors import LedgerError, Refusal

#: File in the storage directory; who can read it may see and steer everything on this gateway.
TOKEN_FILE = "operator.token"  # noqa: S105 - a file's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose data a request may see: its own client's, and nothing else."""

    client: str
    #: Holds the operator's token: may use `/ops`.
    operator: bool = False


CALLER = web.RequestKey("caller", Caller)
ANYBODY = Caller(client="")


class Keyring:
    """Tells callers apart by the key in their Authorization header."""

    def __init__(self, clients: Sequence[Client], operator_token: str) -> None:
        """Without `clients` nobody is asked for a key, and all callers are one client."""
        self._clients = tuple(clients)
        self._operator = _hash(operator_token)

    def caller(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization header. Raises `Refusal` (401), the same for a missing and a wrong key."""
        if not self._clients and authorization is None:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        digest = _hash(key)
        # An empty key is nobody's, also where a token or a client's key came out empty.
        if hmac.compare_digest(digest, self._operator) and key:
            return Caller(client="", operator=True)
        if not self._clients:
            return ANYBODY
        # Every hash is compared, so that time tells nothing of which one was near.
        found = [client.name for client in self._clients if hmac.compare_digest(digest, client.key_hash)]
        if not found or not key:
            raise Refusal(
                "invalid_api_key",
                "The API key is missing or is not one of this gateway's. It takes the keys of its own configuration "
                "([[clients]]), not a provider's key.",
            )
        return Caller(client=found[0])


def operator_token(directory: Path) -> str:
    """The token of this gateway's operator; made at the first start, readable by the owner only.

    A file that a crash left empty is made anew. Raises `LedgerError` when it can be neither read nor made.
    """
    path = directory / TOKEN_FILE
    try:
        token = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        return token or _made(path)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be read or made ({error.strerror}): let this user read it, or delete it, and it is made anew"
        ) from error


def _made(path: Path) -> str:
    """A new token, in a file that others cannot read at any time."""
    token = secrets.token_urlsafe(32)
    partial = path.with_suffix(".part")
    # Made anew, so that whoever may read a file of an earlier crash cannot read this one.
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return token


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
