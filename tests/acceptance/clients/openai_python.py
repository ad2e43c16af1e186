"""The official Python client, of whatever major version is installed: `openai_python.py BASE_URL NAME TIMEOUT`.

Asks one question in each way the client has, all at the same time; prints a JSON object {case: answer}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import openai

BASE_URL, NAME, TIMEOUT = sys.argv[1], sys.argv[2], float(sys.argv[3])
OPTIONS = {"base_url": BASE_URL, "api_key": "none", "timeout": TIMEOUT}


def asked(case: str) -> dict[str, object]:
    """The arguments of the call; each case has a question of its own."""
    return {"model": "sim-small", "messages": [{"role": "user", "content": f"Who asks? {NAME} {case}."}]}


def sync(case: str) -> str:
    """The blocking client."""
    with openai.OpenAI(**OPTIONS) as client:
        return client.chat.completions.create(**asked(case)).choices[0].message.content


def sync_stream(case: str) -> str:
    """The blocking client, streaming."""
    with openai.OpenAI(**OPTIONS) as client:
        chunks = client.chat.completions.create(**asked(case), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def plain(client: openai.AsyncOpenAI, case: str) -> str:
    """An asynchronous call."""
    return (await client.chat.completions.create(**asked(case))).choices[0].message.content


async def stream(client: openai.AsyncOpenAI, case: str) -> str:
    """An asynchronous call, streaming."""
    chunks = await client.chat.completions.create(**asked(case), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def main() -> None:
    """All at once."""
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(4)
    calls = {
        "sync": loop.run_in_executor(pool, sync, "sync"),
        "sync stream": loop.run_in_executor(pool, sync_stream, "sync stream"),
    }
    clients = {"async": openai.AsyncOpenAI(**OPTIONS)}
    if "--aiohttp" in sys.argv:
        clients["aiohttp"] = openai.AsyncOpenAI(**OPTIONS, http_client=openai.DefaultAioHttpClient())
    for case, client in clients.items():
        calls[case] = plain(client, case)
        calls[f"{case} stream"] = stream(client, f"{case} stream")
    answers = await asyncio.gather(*calls.values(), return_exceptions=True)
    found = {"version": openai.__version__, **dict(zip(calls, map(str, answers), strict=True))}
    sys.stdout.write(json.dumps(found))
    for client in clients.values():
        await client.close()


asyncio.run(main())
