"""What a row of a result becomes: every kind of row, goldens, and never an exception."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from gemini_lab import message_of, row

from gateway import Result
from gateway.chat import carried
from gateway_gemini.decode import decode_row
from gateway_gemini.translate import chat_answer, grpc_status


def said(*parts: dict[str, object], finish: str = "STOP", **fields: object) -> dict[str, Any]:
    """A response with one candidate."""
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, **fields}]}


def test_tokens_of_sound_are_told_apart() -> None:
    """Sound has a price of its own, so its tokens are shown where a bill looks for them; without any there is no word of it."""
    details = [
        {"modality": "TEXT", "tokenCount": 4},
        {"modality": "AUDIO", "tokenCount": 96},
        "odd",
        {"modality": "AUDIO"},
    ]
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 1}
    heard = row(said({"text": "a"}) | {"usageMetadata": {**usage, "promptTokensDetails": details}})
    read = row(said({"text": "a"}) | {"usageMetadata": {**usage, "promptTokensDetails": details[:1]}})

    shown = [orjson.loads(orjson.dumps(result.body))["usage"]["prompt_tokens_details"] for result in (heard, read)]
    assert [each.get("audio_tokens") for each in shown] == [96, None]


def finish_of(result: Result) -> str:
    """The finish reason of the first choice."""
    answer = orjson.loads(orjson.dumps(result.body))
    return str(answer["choices"][0]["finish_reason"])


def test_an_answer_becomes_a_chat_completion() -> None:
    """Texts are joined, thoughts are kept apart, ids and usage are OpenAI's."""
    response = said({"text": "hmm", "thought": True}, {"text": "Good "}, {"text": "day"}) | {
        "modelVersion": "gemini-3-flash",
        "responseId": "r1",
        "usageMetadata": {
            "promptTokenCount": 8,
            "candidatesTokenCount": 11,
            "thoughtsTokenCount": 829,
            "cachedContentTokenCount": 3,
            "toolUsePromptTokenCount": 2,
            "totalTokenCount": 850,
        },
    }
    result = row(response)
    body = orjson.loads(orjson.dumps(result.body))

    assert (result.line_id, result.status, result.error) == ("k", 200, None)
    assert (body["model"], body["id"], body["object"]) == ("gemini-3-flash", "r1", "chat.completion")
    assert body["choices"][0]["message"]["content"] == "Good day"
    assert body["choices"][0]["message"]["reasoning_content"] == "hmm"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["completion_tokens"] == 840
    assert body["usage"]["total_tokens"] == 850
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 829


def test_calls_become_tool_calls_with_their_signatures() -> None:
    """Calls keep their ids, STOP becomes tool_calls, and what must come back is in the id, of the call and of the text."""
    result = row(
        said(
            {"text": "I look.", "thoughtSignature": "dGV4dA=="},
            {
                "functionCall": {"id": "fc1", "name": "weather", "args": {"city": "Oslo"}},
                "thoughtSignature": "Y2FsbA==",
            },
            {"functionCall": {"id": "fc2", "name": "time"}},
        )
    )
    calls: Any = message_of(result)["tool_calls"]

    assert finish_of(result) == "tool_calls"
    assert carried(calls[0]["id"]) == ("fc1", {"gemini": "Y2FsbA==", "gemini_text": "dGV4dA=="})
    assert carried(calls[1]["id"]) == ("fc2", None)
    assert [each["function"] for each in calls] == [
        {"name": "weather", "arguments": '{"city":"Oslo"}'},
        {"name": "time", "arguments": "{}"},
    ]


def test_calls_without_ids_get_ids_that_differ_and_stay() -> None:
    """Ids that the provider left out are made of the answer: the same each time, another for each call."""
    parts = [{"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "f", "args": {}}}]
    ids = [[each["id"] for each in message_of(row(said(*parts)))["tool_calls"]] for _ in range(2)]  # type: ignore[attr-defined]

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("OTHER", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("SOMETHING_NEW", "stop"),
        ("", "stop"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    """Each reason has its place in OpenAI's four; new ones count as stop."""
    assert finish_of(row(said({"text": "x"}, finish=reason))) == finish


def test_a_withheld_answer_is_a_refusal() -> None:
    """A candidate without words, stopped by a filter, says why in `refusal`."""
    message = message_of(row(said(finish="SAFETY", finishMessage="no")))

    assert (message["content"], message["refusal"]) == (None, "no")


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    ],
)
def test_a_model_that_stumbled_may_try_again(reason: str) -> None:
    """There is no usable answer, so the line may be asked again."""
    result = row(said({"text": "half"}, finish=reason))

    assert (result.body, result.retriable) == (None, True)
    assert result.error is not None
    assert result.error.code == reason.lower()


def test_a_blocked_prompt_is_a_final_answer() -> None:
    """A prompt that was blocked gives one choice that says so, and its tokens are counted."""
    result = row({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5}})
    message = message_of(result)

    assert (result.status, result.retriable, finish_of(result)) == (200, False, "content_filter")
    assert (message["content"], message["refusal"]) == (None, "prompt blocked: SAFETY")


def test_media_alone_is_no_answer_in_words() -> None:
    """An image without a word cannot be said in a chat completion: a final error, not an empty answer; words beside it stay."""
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    result = row(said(image))

    assert (result.body, result.status, result.retriable) == (None, 422, False)
    assert message_of(row(said(image, {"text": "here"})))["content"] == "here"


def test_no_candidates_may_be_tried_again() -> None:
    """A response that answers nothing, and blocks nothing, is no answer."""
    result = row({"usageMetadata": {"promptTokenCount": 5}})

    assert (result.line_id, result.body, result.retriable) == ("k", None, True)


def test_logprobs_are_told() -> None:
    """Chosen tokens and their rivals arrive as OpenAI's content."""
    chosen = [{"token": "Hi", "logProbability": -0.5, "tokenId": 1}]
    logs = {"chosenCandidates": chosen, "topCandidates": [{"candidates": chosen}]}
    body = orjson.loads(orjson.dumps(row(said({"text": "Hi"}, logprobsResult=logs)).body))
    [token] = body["choices"][0]["logprobs"]["content"]

    assert (token["token"], token["logprob"]) == ("Hi", -0.5)
    assert [top["token"] for top in token["top_logprobs"]] == ["Hi"]


@pytest.mark.parametrize(
    ("code", "status", "retriable"),
    [
        (1, 499, True),
        (2, 500, True),
        (3, 400, False),
        (4, 504, True),
        (5, 404, False),
        (7, 403, False),
        (8, 429, True),
        (9, 400, False),
        (10, 409, True),
        (11, 400, False),
        (12, 422, False),
        (13, 500, True),
        (14, 503, True),
        (16, 401, False),
        (99, 500, True),
    ],
)
def test_error_rows_by_code(code: int, status: int, retriable: bool) -> None:
    """Every google.rpc code has its status, whether it stands under `error` or `status`."""
    for name in ("error", "status"):
        result = row(**{name: {"code": code, "message": "why"}})  # type: ignore[arg-type]
        assert (result.line_id, result.status, result.retriable) == ("k", status, retriable)
        assert result.error is not None
        assert result.error.message == "why"
    assert grpc_status(code) == (status, retriable)


def test_an_answer_counts_more_than_an_error_beside_it() -> None:
    """What was answered was paid for; an empty status beside it says nothing."""
    for beside in ({"error": {"code": 13}}, {"status": ""}, {"status": "odd"}):
        assert row(said({"text": "x"}), **beside).status == 200


@pytest.mark.parametrize(
    ("content", "line_id"),
    [
        ({"metadata": {"key": "m"}, "response": said({"text": "x"})}, "m"),
        ({"response": said({"text": "x"})}, None),
        ({"key": 5, "response": said({"text": "x"})}, None),
    ],
)
def test_keys_are_found_where_they_are(content: dict[str, object], line_id: str | None) -> None:
    """An inlined row has its key in metadata; a row without any names no line, and is read all the same."""
    result = decode_row(orjson.dumps(content))

    assert (result.line_id, result.status) == (line_id, 200)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"x"', b'{"key":"k"}', b'{"key":"k","response":null}', b'{"key":"\xff"}']
)
def test_rows_that_say_nothing_are_retriable(raw: bytes) -> None:
    """What cannot be read is neither an answer nor final."""
    result = decode_row(raw)

    assert (result.body, result.retriable) == (None, True)
    assert result.error is not None


def test_embeddings_become_openais_list() -> None:
    """A row with an embedding is a list of one; one without numbers is no answer."""
    body = orjson.loads(orjson.dumps(row({"embedding": {"values": [0.5, 1]}}).body))

    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
    assert row({"embedding": {"values": []}}).retriable
    assert row({"embedding": {"values": ["x"]}}).retriable


def test_the_model_is_named_by_the_response_or_by_the_caller() -> None:
    """A response that names no model gets the one it was asked from."""
    result = chat_answer(said({"text": "x"}), model="asked")

    assert result.body is not None
    assert result.body["model"] == "asked"


@pytest.mark.parametrize("response_id", [{"responseId": "r1"}, {}])
def test_arguments_of_any_depth_are_told(response_id: dict[str, str]) -> None:
    """Arguments that are nested as deep as a row can be read are told: the answer is paid for, whatever a model has written."""
    deep = "[" * 500 + "]" * 500
    response = said({"functionCall": {"name": "f", "args": {"a": "DEEP"}}}) | response_id
    result = decode_row(orjson.dumps({"key": "m-0", "response": response}).replace(b'"DEEP"', deep.encode()))
    calls: Any = message_of(result)["tool_calls"]

    assert calls[0]["function"]["arguments"] == f'{{"a":{deep}}}'
