"""What the provider makes of credentials that are missing, connections that fail, and calls that are refused."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.genai.errors import APIError
from vertex_lab import CHAT, MODEL, Google, chat, provider_at, url_of

from gateway import (
    Ambiguous,
    Batch,
    Call,
    Missing,
    Provider,
    ProviderError,
    Rejected,
    RemoteBatch,
    RemoteState,
    Retryable,
    Unauthorised,
)
from gateway.failures import Answered, StatusError
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import Lab, deaf
from gateway_vertex.failures import FAILURES, credentials_failure, read

VERBS: dict[str, Callable[[Provider, Batch, RemoteBatch], Awaitable[object]]] = {
    "upload": lambda provider, batch, _: provider.upload(batch),
    "submit": lambda provider, batch, _: provider.submit(batch),
    "find": lambda provider, batch, _: provider.find(batch),
    "poll": lambda provider, _, remote: provider.poll(remote),
    "fetch": lambda provider, batch, remote: provider.fetch(remote, batch.spool.with_name("fetched")),
    "cancel": lambda provider, _, remote: provider.cancel(remote),
    "discard": lambda provider, batch, remote: provider.discard(batch, remote),
    "complete": lambda provider, _, __: provider.complete(Call(endpoint=CHAT, model=MODEL, body=chat("x"))),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DefaultCredentialsError("none here"), Unauthorised),
        (RefreshError("revoked"), Unauthorised),
        (RefreshError("busy", retryable=True), Retryable),
        (TransportError("no route"), Retryable),
    ],
)
async def test_without_a_token_nothing_is_sent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, verb: str, error: Exception, kind: type[ProviderError]
) -> None:
    """Credentials that cannot be had stop the account, unless that may pass; no call arrives anywhere."""
    batch = await lab.upload(chat("x"))
    remote = await lab.provider.submit(batch)

    def default(**_: object) -> object:
        raise error

    monkeypatch.setattr("google.auth.default", default)
    before = dict(lab.simulator.ledger.calls)
    async with provider_at(lab, url_of(lab), access_token="") as provider:
        with pytest.raises(ProviderError) as caught:
            await VERBS[verb](provider, batch, remote)

    assert type(caught.value) is kind
    assert dict(lab.simulator.ledger.calls) == before


async def test_credentials_that_come_later_are_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are looked for again until there are some: a login is enough, no restart."""
    from google.oauth2.credentials import Credentials

    answers = [DefaultCredentialsError("not yet"), (Credentials(token="late"), "acme")]

    def default(**_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("google.auth.default", default)
    batch = lab.seal(chat("x"))
    async with provider_at(lab, url_of(lab), access_token="") as provider:
        with pytest.raises(Unauthorised):
            await provider.upload(batch)
        uploaded = replace(batch, file_id=await provider.upload(batch))
        assert (await provider.submit(uploaded)).state is RemoteState.RUNNING


async def test_the_environment_of_the_sdks_is_not_asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that move the SDKs elsewhere do not move us: projects, keys, versions and addresses come from the table."""
    for name, value in {
        "GOOGLE_CLOUD_PROJECT": "somebody-elses",
        "GOOGLE_CLOUD_LOCATION": "nowhere",
        "GOOGLE_API_KEY": "AIza-not-ours",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
        "GOOGLE_GENAI_USE_VERTEXAI": "false",
    }.items():
        monkeypatch.setenv(name, value)
    async with provider_at(lab, url_of(lab)) as provider:
        elsewhere = replace(lab, provider=provider)
        remote = await elsewhere.run(chat("a"))
        results = await elsewhere.results(remote)

    assert os.environ["GOOGLE_CLOUD_PROJECT"] == "somebody-elses"
    assert remote.remote_id.startswith("projects/acme/locations/us-central1/")
    assert [result.status for result in results] == [200]


async def test_a_create_call_that_is_cut_is_sent_once(lab: Lab) -> None:
    """A connection that is lost after the call has acted is Ambiguous, and the SDK's own second try does not happen."""
    batch = await lab.upload(chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    with pytest.raises(Ambiguous):
        await lab.provider.submit(batch)

    assert lab.simulator.ledger.calls["create"] == 1
    assert len(lab.simulator.store.batches) == 1


async def test_a_create_call_that_hangs_is_ambiguous(lab: Lab) -> None:
    """No answer within the time limit leaves open what happened."""
    batch = await lab.upload(chat("x"))
    async with deaf() as url, provider_at(lab, url, timeout_seconds=0.2) as provider:
        with pytest.raises(Ambiguous):
            await provider.submit(batch)


async def test_a_transfer_that_stands_still_is_retryable(lab: Lab) -> None:
    """An upload or a download that makes no progress is given up, and may be tried again."""
    batch = await lab.upload(chat("x"))
    remote = await lab.later(await lab.provider.submit(batch))
    async with deaf() as url, provider_at(lab, url, transfer_timeout_seconds=0.2) as provider:
        for verb in ("upload", "fetch", "discard"):
            with pytest.raises(Retryable):
                await VERBS[verb](provider, batch, remote)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_connection_that_is_never_made_is_retryable(lab: Lab, scheme: str, verb: str) -> None:
    """A refused connection, or a TLS handshake that fails, cannot have done anything."""
    batch = await lab.upload(chat("x"))
    remote = await lab.provider.submit(batch)
    assert lab.server is not None
    port = lab.server.port
    if scheme == "http":
        await lab.server.stop()
    async with provider_at(lab, f"{scheme}://127.0.0.1:{port}/vertex") as provider:
        with pytest.raises(Retryable):
            await VERBS[verb](provider, batch, remote)


@pytest.mark.parametrize("status", [400, 404, 409, 412, 429, 500, 503])
async def test_an_upload_refuses_nobodys_request(lab: Lab, status: int) -> None:
    """A bucket that is missing or busy is the operator's matter: the upload waits, and the requests are not blamed."""
    lab.simulator.faults.order(Fault(kind=FaultKind.STATUS, operation=Operation.UPLOAD, status=status))
    with pytest.raises((Retryable, Missing)) as caught:
        await lab.provider.upload(lab.seal(chat("x")))

    assert type(caught.value) is Retryable


async def test_an_upload_whose_answer_is_lost_was_made(lab: Lab, google: Google) -> None:
    """After a lost answer the next upload finds its object there, whole."""
    batch = lab.seal(chat("x"))
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.UPLOAD, when="after"))
    with pytest.raises(Retryable):
        await lab.provider.upload(batch)
    uri = await lab.provider.upload(batch)

    assert await google.read((uri or "").removeprefix("gs://acme-batches/")) == batch.spool.read_bytes()


async def test_a_model_that_is_not_there_refuses_the_batch(lab: Lab) -> None:
    """A create call with a model that the API does not take is Rejected with the API's reason."""
    batch = replace(await lab.upload(chat("x")), model="models/nobody")
    with pytest.raises(Rejected, match="model name"):
        await lab.provider.submit(batch)


async def test_an_input_that_is_gone_can_be_uploaded_anew(lab: Lab) -> None:
    """After somebody emptied the bucket the create call is refused, and a new upload mends it."""
    batch = await lab.upload(chat("x"))
    await lab.provider.discard(batch, None)
    with pytest.raises(ProviderError):
        await lab.provider.submit(batch)
    await lab.provider.upload(batch)

    assert (await lab.provider.submit(batch)).state is RemoteState.RUNNING


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "INVALID_ARGUMENT", Rejected),
        (400, "FAILED_PRECONDITION", Retryable),
        (412, "FAILED_PRECONDITION", Rejected),
        (403, "PERMISSION_DENIED", Unauthorised),
        (404, "NOT_FOUND", Rejected),
        (409, "ABORTED", Ambiguous),
        (429, "RESOURCE_EXHAUSTED", Retryable),
        (503, "UNAVAILABLE", Ambiguous),
        (302, "", Ambiguous),
    ],
)
def test_create_failures_by_status(status: int, name: str, kind: type[ProviderError]) -> None:
    """Every status of a create call has its class; a precondition of the project is nobody's request's fault."""
    answered = Answered(status=status, code=name, message="why")

    assert type(FAILURES.create_failure(StatusError(answered))) is kind


def test_a_key_is_never_told() -> None:
    """What an API says of a token that it does not accept stays out of our errors."""
    details = {"error": {"code": 401, "message": "bad token ya29.SECRET", "status": "UNAUTHENTICATED"}}
    error = APIError(401, details)
    told = [FAILURES.create_failure(error), FAILURES.repeatable_failure(error, "poll")]
    failures = [*told, credentials_failure("x", RefreshError("SECRET"))]

    assert all("SECRET" not in str(failure) for failure in failures)
    assert all(isinstance(failure, Unauthorised) for failure in failures)


@pytest.mark.parametrize("details", [None, [], [{}], "text", {"error": "text"}, {"error": None}, {"message": 5}])
def test_strange_errors_are_read(details: object) -> None:
    """An error's body may be anything."""
    answered = read(APIError(500, details))

    assert answered == Answered(status=500)
    assert isinstance(FAILURES.create_failure(APIError(400, details)), Rejected)


async def test_a_spool_that_is_gone_is_no_lost_connection(lab: Lab) -> None:
    """A file that cannot be read is not mistaken for a network that may come back."""
    batch = lab.seal(chat("x"))
    batch.spool.unlink()
    with pytest.raises(FileNotFoundError):
        await lab.provider.upload(batch)
