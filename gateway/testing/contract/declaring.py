"""What a kind says of itself before it does anything."""

from __future__ import annotations

import re

from gateway.provider import Provider, ProviderSettings
from gateway.records import Limits
from gateway.sandbox import Simulator
from gateway.testing.contract.base import ContractBase
from gateway.testing.lab import Lab, simulator_of

_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class DeclaringContract(ContractBase):
    """Class attributes, and exemptions."""

    def test_the_kind_has_a_name_and_settings(self) -> None:
        """The kind is one lower-case word for `kind = "..."`, and its keys are a model that refuses unknown ones."""
        kind = self.provider_class
        assert _KIND.fullmatch(kind.kind), f"kind {kind.kind!r} is not a lower-case word with dashes"
        assert issubclass(kind.Settings, ProviderSettings), "Settings is no subclass of gateway.ProviderSettings"
        assert kind.Settings.model_config.get("extra") == "forbid", "Settings takes keys that nobody knows"

    def test_limits_are_sane(self) -> None:
        """Each limit is absent or above zero, one line fits into one batch, and a provider of batches declares a size."""
        limits = self.provider_class.limits
        for name in Limits.__dataclass_fields__:
            limit = getattr(limits, name)
            for number in limit.values() if hasattr(limit, "values") else [limit]:
                low = number is not None and (number < 0 if name == "min_poll_seconds" else number <= 0)
                assert not low, f"limits.{name} is {number!r}"
        if limits.max_line_bytes is not None and limits.max_bytes is not None:
            assert limits.max_line_bytes <= limits.max_bytes, "a line may be larger than a whole batch"
        declared = limits.max_requests is not None or limits.max_bytes is not None
        assert declared or not self.provider_class.batch, "limits declares neither max_requests nor max_bytes"

    def test_the_simulator_can_be_loaded(self) -> None:
        """`simulator` names a subclass of gateway.sandbox.Simulator that is there, if it names anything."""
        simulator_class = simulator_of(self.provider_class)
        assert simulator_class is None or issubclass(simulator_class, Simulator), "simulator names no Simulator"

    def test_it_is_made_without_asking_anybody(self, lab: Lab) -> None:
        """Making an instance sends nothing: a gateway starts also while the provider is down."""
        asked = {} if lab.account is None else dict(lab.account.ledger.calls)
        assert asked == {}, f"the constructor called {sorted(asked)}"

    def test_it_can_do_one_thing_or_the_other(self) -> None:
        """A kind without batches has a synchronous endpoint: it would be no use otherwise."""
        kind = self.provider_class
        assert kind.batch or kind.complete is not Provider.complete, "neither batches nor complete()"

    def test_exemptions_are_named_and_reasoned(self) -> None:
        """Each exemption names a test that there is, and says why."""
        for name, reason in self.exempt.items():
            assert name.startswith("test_"), f"exempt names {name}, which is no test"
            assert hasattr(self, name), f"exempt names {name}, which is no test of the contract"
            assert len(reason.split()) > 2, f"exempt gives no reason for {name}"
