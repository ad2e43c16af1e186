"""An address that leads to one place is written in one way, so that what was left there is found again.

Floor 0.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_USUAL_PORTS = {"http": ":80", "https": ":443"}
#: What may stand before the host.
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")


def without_credentials(address: str) -> str:
    """An address less the user and password that may stand before its host."""
    return _CREDENTIALS.sub("", address, count=1)


def place_of(address: str) -> str:
    """`address` as it is compared and stored: without user and password, which are no part of the place.

    Nor are capitals in scheme and host, the usual port, slashes at the end and blanks around it. What is no URL stays as it is.
    """
    stripped = without_credentials(address.strip())
    try:
        scheme, host, path, query, _ = urlsplit(stripped)
    except ValueError:
        return stripped
    if not host:
        return stripped
    host = host.lower().removesuffix(_USUAL_PORTS.get(scheme, ""))
    return urlunsplit((scheme, host, path.rstrip("/"), query, ""))
