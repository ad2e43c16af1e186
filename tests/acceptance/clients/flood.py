"""Many ordinary calls at once: `flood.py BASE_URL COUNT`. Prints a JSON array of the answers, in the order of the questions."""

from __future__ import annotations

import asyncio
import json
import resource
import sys

import aiohttp

BASE_URL, COUNT = sys.argv[1], int(sys.argv[2])


async def ask(session: aiohttp.ClientSession, number: int) -> str:
    """One call on a connection of its own."""
    body = {"model": "sim-small", "messages": [{"role": "user", "content": f"Flood {number}?"}]}
    async with session.post(f"{BASE_URL}/chat/completions", json=body) as response:
        answer = await response.json()
        return answer["choices"][0]["message"]["content"] if response.status == 200 else f"{response.status} {answer}"


async def main() -> None:
    """All at once."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        answers = await asyncio.gather(*(ask(session, number) for number in range(COUNT)), return_exceptions=True)
    sys.stdout.write(json.dumps(list(map(str, answers))))


asyncio.run(main())
