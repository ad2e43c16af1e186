"""Our own ids: `bw_<number>_<secret>`. The number finds the row without an index, the secret keeps others from guessing."""

from __future__ import annotations

import secrets

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PREFIX = "bw"


def new_token() -> str:
    """The secret part of a new id: 64 random bits."""
    return secrets.token_hex(8)


def own_id(seq: int, token: str) -> str:
    """The id of request `seq`."""
    digits = []
    while seq:
        seq, digit = divmod(seq, 36)
        digits.append(_DIGITS[digit])
    return f"{_PREFIX}_{''.join(reversed(digits)) or '0'}_{token}"


def parse_own_id(custom_id: str) -> tuple[int, str] | None:
    """The number and the secret of one of our ids; None if it cannot be one."""
    parts = custom_id.split("_")
    if len(parts) != 3 or parts[0] != _PREFIX or not 0 < len(parts[1]) <= 12:
        return None
    if any(digit not in _DIGITS for digit in parts[1]):
        return None
    return int(parts[1], 36), parts[2]
