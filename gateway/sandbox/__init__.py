"""Simulated providers: for plugin authors who write one, for users who rehearse, and for our own tests.

A simulator is a real HTTP server in a provider's own wire format. To write one, subclass `Simulator`; to run one,
give it to `SandboxServer`; to make it misbehave, order a `Fault`; to see what was asked of it, read `submissions()`.
"""

from __future__ import annotations

from gateway.sandbox.answers import answer_text, body_hash, instance, sampled, tokens_of
from gateway.sandbox.chat import ChatAnswer, ChatChoice, chat_answer, distorted, last_text, unique_digits
from gateway.sandbox.creation import NewBatch
from gateway.sandbox.directives import Directive
from gateway.sandbox.faults import Fault, FaultBook, FaultKind, Operation
from gateway.sandbox.ledger import Submissions, SubmittedLine
from gateway.sandbox.lifecycle import Life, Stage
from gateway.sandbox.paging import page
from gateway.sandbox.records import Line, Outcome, Problem, StoredBatch, StoredFile, Yield
from gateway.sandbox.replies import json_object, reply, send
from gateway.sandbox.routes import Route, bearer_key
from gateway.sandbox.server import SandboxServer
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.simulator import Simulator
from gateway.sandbox.store import new_id
from gateway.sandbox.uploads import Upload, receive

__all__ = [
    "ChatAnswer",
    "ChatChoice",
    "Directive",
    "Fault",
    "FaultBook",
    "FaultKind",
    "Life",
    "Line",
    "NewBatch",
    "Operation",
    "Outcome",
    "Problem",
    "Route",
    "SandboxServer",
    "SandboxSettings",
    "Simulator",
    "Stage",
    "StoredBatch",
    "StoredFile",
    "Submissions",
    "SubmittedLine",
    "Upload",
    "Yield",
    "answer_text",
    "bearer_key",
    "body_hash",
    "chat_answer",
    "distorted",
    "instance",
    "json_object",
    "last_text",
    "new_id",
    "page",
    "receive",
    "reply",
    "sampled",
    "send",
    "tokens_of",
    "unique_digits",
]
