"""Callers as there are: patient ones and hasty ones, some that stream, some that come back for it, some that hang up.

Each is the official client as it is shipped, or plain HTTP. What the client does not try again its application does, as a
script that is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import httpx2
from openai import APIConnectionError, APIError, AsyncOpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.acceptance.stand import Stand, request_body

#: Between a call that failed and the application's next.
AGAIN_SECONDS = 0.3
#: Longer than the gateway is ever stopped for, so that only a gateway that is gone is run away from.
HASTY_SECONDS = 6.0
#: A stored answer is asked for this often.
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One call; nobody else asks the same."""

    #: With the provider's name before it.
    model: str
    text: str
    #: What makes a large body of it.
    filler: str = ""

    @property
    def messages(self) -> list[ChatCompletionMessageParam]:
        """The conversation that is sent."""
        return [{"role": "user", "content": self.text + self.filler}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller was told."""

    text: str
    input_tokens: int
    output_tokens: int


class Manner(Protocol):
    """One way to ask; raises what the client raises."""

    async def __call__(self, clients: Clients, question: Question) -> Answer:
        """The answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The clients of one application."""

    patient: AsyncOpenAI
    hasty: AsyncOpenAI
    http: httpx2.AsyncClient


@asynccontextmanager
async def open_clients(stand: Stand) -> AsyncIterator[Clients]:
    """As shipped: two retries, ten minutes of patience, but for the hasty one."""
    base_url = f"{stand.url}/v1"
    async with AsyncExitStack() as stack:
        yield Clients(
            patient=await stack.enter_async_context(AsyncOpenAI(api_key="none", base_url=base_url)),
            hasty=await stack.enter_async_context(
                AsyncOpenAI(api_key="none", base_url=base_url, timeout=HASTY_SECONDS)
            ),
            http=await stack.enter_async_context(httpx2.AsyncClient(base_url=stand.url, timeout=60.0)),
        )


async def ask_patiently(clients: Clients, question: Question) -> Answer:
    """An ordinary call."""
    return _told(await clients.patient.chat.completions.create(model=question.model, messages=question.messages))


async def ask_hastily(clients: Clients, question: Question) -> Answer:
    """A call that is answered early, with blanks."""
    return _told(await clients.hasty.chat.completions.create(model=question.model, messages=question.messages))


async def stream(clients: Clients, question: Question) -> Answer:
    """A call that streams."""
    text = ""
    usage: CompletionUsage | None = None
    pieces = await clients.patient.chat.completions.create(
        model=question.model, messages=question.messages, stream=True, stream_options={"include_usage": True}
    )
    async for piece in pieces:
        text += "".join(choice.delta.content or "" for choice in piece.choices)
        usage = piece.usage or usage
    if usage is None:
        raise httpx2.RemoteProtocolError("the stream ended before its usage was told")
    return Answer(text=text, input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)


async def leave_and_come_back(clients: Clients, question: Question) -> Answer:
    """A request that is left under a name and fetched later: once its 202 was seen, it is never sent again."""
    name = question.text.strip(" ?").replace(" ", "-")
    path = f"/v1/results/{name}"
    await until_connected(lambda: _leave(clients.http, question, {"x-batchway-custom-id": name}))
    while True:
        response = await until_connected(lambda: clients.http.get(path))
        if response.status_code == 200 and "choices" in response.json():
            return _told(ChatCompletion.model_validate(response.json()))
        assert response.status_code in (200, 202, 503), f"{question.text} was accepted and is lost: {response.text}"
        await asyncio.sleep(LOOK_SECONDS)


async def hang_up(clients: Clients, question: Question) -> Answer:
    """A caller who goes away when the gateway has begun to answer, and tries again.

    Every call says that it is a try of the same one: a gateway that has not noticed yet who went away would else take the
    second for another sample.
    """
    headers = {"Content-Type": "application/json", "x-stainless-retry-count": "1"}
    body = request_body(question.text + question.filler, model=question.model)
    early = {**headers, "x-stainless-read-timeout": "1"}
    async with clients.http.stream("POST", "/v1/chat/completions", content=body, headers=early) as response:
        _refuse_a_503(response)
    await asyncio.sleep(AGAIN_SECONDS)
    response = await clients.http.post("/v1/chat/completions", content=body, headers=headers)
    _refuse_a_503(response)
    return _told(ChatCompletion.model_validate(response.json()))


MANNERS: tuple[Manner, ...] = (ask_patiently, ask_hastily, stream, leave_and_come_back, hang_up)


async def insist(manner: Manner, clients: Clients, question: Question) -> Answer:
    """Ask until there is an answer; what is no matter of a gateway that went away is raised."""
    while True:
        try:
            return await manner(clients, question)
        except (APIConnectionError, httpx2.TransportError):
            pass
        except APIError as error:
            if error.code != "stopping":
                raise
        await asyncio.sleep(AGAIN_SECONDS)


async def until_connected(send: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """The response to a call that is sent until there is one."""
    while True:
        try:
            return await send()
        except httpx2.TransportError:
            await asyncio.sleep(AGAIN_SECONDS)


async def _leave(http: httpx2.AsyncClient, question: Question, headers: Mapping[str, str]) -> httpx2.Response:
    body = request_body(question.text + question.filler, model=question.model)
    detached = {"Prefer": "respond-async", "Content-Type": "application/json", **headers}
    response = await http.post("/v1/chat/completions", content=body, headers=detached)
    _refuse_a_503(response)
    return response


def _refuse_a_503(response: httpx2.Response) -> None:
    """What plain HTTP has to do itself: a gateway that stops is one that went away."""
    if response.status_code == 503:
        raise httpx2.RemoteProtocolError("the gateway is stopping")
    assert response.status_code in (200, 202), response


def _told(completion: ChatCompletion) -> Answer:
    usage = completion.usage
    assert usage is not None
    return Answer(
        text=completion.choices[0].message.content or "",
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
    )
