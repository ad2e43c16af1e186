"""Chat completions for plugins whose provider speaks otherwise: read OpenAI's words, write OpenAI's words.

`read_chat(body)` -> `ChatRequest`; `completion(...)` -> the answer's body; `carry` and `carried` for what must come
back with a tool call's id, `plain_ids` where nobody wants it.
"""

from __future__ import annotations

from gateway.chat.carrying import carried, carry, plain_ids
from gateway.chat.reading import read_chat
from gateway.chat.records import (
    AssistantTurn,
    Called,
    ChatRequest,
    ChatUsage,
    Choice,
    Effort,
    Finish,
    JsonObject,
    JsonSchema,
    Link,
    Media,
    Part,
    SystemTurn,
    Text,
    Token,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    ToolTurn,
    Turn,
    UserTurn,
)
from gateway.chat.writing import completion

__all__ = [
    "AssistantTurn",
    "Called",
    "ChatRequest",
    "ChatUsage",
    "Choice",
    "Effort",
    "Finish",
    "JsonObject",
    "JsonSchema",
    "Link",
    "Media",
    "Part",
    "SystemTurn",
    "Text",
    "Token",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolMode",
    "ToolResult",
    "ToolTurn",
    "Turn",
    "UserTurn",
    "carried",
    "carry",
    "completion",
    "plain_ids",
    "read_chat",
]
