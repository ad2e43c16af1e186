"""How a simulated provider behaves when nothing goes wrong: its speed, its delays and its limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Everything that can be set on a simulator; all times in seconds, fractions allowed.

    The times of one batch are drawn when it is created, so a change applies to later batches only.
    """

    #: How long a batch is being validated.
    validating_seconds: float = 0.5
    #: How long its lines run after that.
    running_seconds: float = 5.0
    #: How long its result files are being written after that.
    finalizing_seconds: float = 0.5
    #: How long a cancelled batch says that it is being cancelled.
    cancelling_seconds: float = 0.0
    #: Each batch's three times are multiplied by one number between 1 - jitter and 1 + jitter.
    jitter: float = 0.0
    #: After this long a batch expires with what is done by then.
    window_seconds: float = 86_400.0

    #: An uploaded file says for so long that it is still being read.
    file_pending_seconds: float = 0.0
    #: A create call says for so long after an upload that there is no such file.
    file_lag_seconds: float = 0.0
    #: A new batch is missing from lists for so long.
    list_lag_seconds: float = 0.0
    #: A new batch is unknown to polls for so long.
    poll_lag_seconds: float = 0.0
    #: How long a synchronous call takes.
    completion_seconds: float = 0.0

    #: The only key that is accepted; empty: any key, but there has to be one.
    api_key: str = ""
    #: Model names that are listed; any other name is served as well.
    models: tuple[str, ...] = ("sim-large", "sim-small", "gpt-4o", "gpt-4o-mini", "gpt-4.1-mini")

    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    #: Estimated input tokens of one model in unfinished batches; one more batch is refused. None: no limit.
    max_enqueued_tokens: int | None = None
    #: True: a token limit is told by the create call; False: by a batch that fails in validation.
    token_limit_at_create: bool = False
    max_creates_per_hour: int | None = 2_000
    max_open_batches: int | None = None

    #: Rows come in another order than the lines went.
    shuffle: bool = True
    #: Body fields that the simulator does not know are refused; off, because new ones appear all the time.
    strict_fields: bool = False
    #: Makes order and jitter the same in every pass.
    seed: int = 0
