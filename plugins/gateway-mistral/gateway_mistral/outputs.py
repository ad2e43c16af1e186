"""Taking the rows out of a job that carries its results inside: `"outputs": [{...}, ...]`, without parsing it as a whole.

A parser holds every other thread still until it is done; this one looks at one token after the other.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from gateway import Retryable

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)
_LIST = b'"outputs"'


def rows_within(job: bytes | mmap.mmap) -> Iterator[bytes]:
    """Each element of the job's `outputs`, as bytes without a newline. Raises `Retryable` when the job was cut.

    Nothing comes of a job without the list, or with null in its place.
    """
    depth, wanted, inside, start = 0, False, False, 0
    for token in _TOKEN.finditer(job):
        first = token.group()[:1]
        if first == b'"':
            wanted = (
                depth == 1
                and token.group() == _LIST
                and bytes(job[token.end() : token.end() + 16]).lstrip()[:1] == b":"
            )
        elif first in (b"{", b"["):
            if depth == 1 and wanted and first == b"[":
                inside = True
            elif depth == 2 and inside:
                start = token.start()
            depth += 1
            wanted = False
        else:
            depth -= 1
            if depth == 2 and inside:
                yield bytes(job[start : token.end()]).replace(b"\n", b" ").replace(b"\r", b" ")
            elif depth == 1:
                inside = False
    if depth != 0 or bytes(job[:64]).lstrip()[:1] != b"{":
        raise Retryable("fetch: the job with its results was cut")
