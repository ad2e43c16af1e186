"""The one hook of a plugin, and the two markers that go with it.

Floor 1. A plugin is a package with an entry point in the group `batchway` and one function:

    from gateway import hookimpl

    @hookimpl
    def register_providers():
        return [MyProvider]
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from gateway.provider import Provider

#: Name of the pluggy project, of both markers, and of the entry-point group.
PROJECT = "batchway"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_providers() -> Iterable[type[Provider]]:  # type: ignore[empty-body]
    """Return the kinds this plugin brings.

    Called once at start, before any provider is made. Return classes, not instances: core makes one instance for
    each configured table. Raising takes this plugin's kinds away, with a message that names it; the others are not disturbed.
    """
