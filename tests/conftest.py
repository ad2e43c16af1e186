"""What every test shares: nothing yet but Hypothesis's profile, so that a slow machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("batchway", deadline=None, print_blob=True)
settings.load_profile("batchway")
