"""Whatever a response holds, it is read."""

from __future__ import annotations

import orjson
from gemini_lab import row
from hypothesis import given, settings
from hypothesis import strategies as st

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


_PART = st.dictionaries(st.sampled_from(["text", "thought", "functionCall", "thoughtSignature", "inlineData"]), _JSON)


_CANDIDATE = st.fixed_dictionaries(
    {},
    optional={
        "content": st.fixed_dictionaries({"parts": st.lists(_PART | _JSON, max_size=3)}) | _JSON,
        "finishReason": st.sampled_from(["STOP", "SAFETY", "MALFORMED_RESPONSE"]) | _JSON,
        "index": _JSON,
        "logprobsResult": st.dictionaries(
            st.sampled_from(["chosenCandidates", "topCandidates"]), st.lists(_JSON) | _JSON
        ),
    },
)


@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "candidates": st.lists(_CANDIDATE | _JSON, max_size=3) | _JSON,
            "usageMetadata": st.dictionaries(st.sampled_from(["promptTokenCount", "thoughtsTokenCount"]), _JSON)
            | _JSON,
            "promptFeedback": st.fixed_dictionaries({"blockReason": _JSON}) | _JSON,
            "responseId": _JSON,
            "modelVersion": _JSON,
            "embedding": _JSON,
        },
    )
)
def test_no_response_breaks_decode(response: dict[str, object]) -> None:
    """Whatever stands where in a response, it is an answer that can be written, or an error that says something."""
    result = row(response)
    orjson.dumps(result.body)

    assert result.line_id == "k"
    assert (result.body is not None and result.status == 200) or (result.error is not None and result.error.message)
