"""Whose rights calls have."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gateway_vertex.settings import VertexSettings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class CredentialSource:
    """Finds credentials when they are first needed, and keeps them: finding them may ask files or a metadata server."""

    def __init__(self, settings: VertexSettings) -> None:
        self._token = settings.access_token.get_secret_value()
        self._finding = threading.Lock()
        self._found: Credentials | None = None

    def load(self) -> Credentials:
        """The configured token, or Application Default Credentials; blocks, from any thread.

        Raises what google-auth raises.
        """
        with self._finding:
            if self._found is None:
                self._found = self._find()
            return self._found

    def _find(self) -> Credentials:
        import google.auth
        from google.oauth2.credentials import Credentials as Token

        if self._token:
            return Token(token=self._token)  # type: ignore[no-untyped-call]
        found, _ = google.auth.default(scopes=list(_SCOPES))
        return found
