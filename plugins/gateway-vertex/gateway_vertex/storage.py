"""Objects in Cloud Storage, as far as batches need them. Everything blocks and belongs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from gateway import Retryable
from gateway.transfers import end_row, result_file
from gateway_vertex.credentials import CredentialSource
from gateway_vertex.places import Place
from gateway_vertex.settings import VertexSettings
from gateway_vertex.threads import Leash, LeashedFile

#: A piece of an upload; the SDK would hold 100 MiB in memory.
_PIECE_BYTES = 8 << 20
_CONNECT_SECONDS = 10.0
_LIST_PAGE = 1_000

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class _Blob(Protocol):
    """The SDK's object, which has no types; every call is one try: core repeats what failed, and knows that it did."""

    name: str
    size: int | None
    generation: int | None

    def upload_from_file(
        self,
        file_obj: LeashedFile,
        *,
        size: int,
        content_type: str,
        if_generation_match: int,
        timeout: tuple[float, float],
        retry: None,
    ) -> None: ...

    def download_to_file(self, file_obj: LeashedFile, *, timeout: tuple[float, float], retry: None) -> None: ...

    def reload(self, *, timeout: tuple[float, float], retry: None) -> None: ...

    def delete(self, *, timeout: tuple[float, float], retry: None) -> None: ...


class _Bucket(Protocol):
    def blob(self, blob_name: str, chunk_size: int | None = None) -> _Blob: ...


class _Client(Protocol):
    def bucket(self, bucket_name: str) -> _Bucket: ...

    def list_blobs(
        self, bucket_or_name: str, *, prefix: str, page_size: int, timeout: tuple[float, float], retry: None
    ) -> Iterable[_Blob]: ...

    def close(self) -> None: ...


class ObjectStore:
    """Cloud Storage behind its own SDK; no call is made before it is needed."""

    def __init__(self, settings: VertexSettings, credentials: CredentialSource) -> None:
        """Loads the SDK."""
        # Half a second that the first upload need not wait for.
        import google.cloud.storage  # type: ignore[import-untyped]  # noqa: F401 - it has no types

        self._project = settings.project
        self._url = settings.objects_url
        self._credentials = credentials
        self._timeout = (_CONNECT_SECONDS, settings.transfer_timeout_seconds)
        self._making = threading.Lock()
        self._made: _Client | None = None

    def upload(self, place: Place, name: str, path: Path, leash: Leash) -> None:
        """Make the object `name` out of the file, unless it is there already, whole.

        An object is there as a whole or not at all, and its name is one batch's own: the same size means the same bytes.
        """
        from google.api_core.exceptions import PreconditionFailed

        size = path.stat().st_size
        blob = self._client().bucket(place.bucket).blob(name, chunk_size=_PIECE_BYTES)
        try:
            self._send(blob, path, size, leash, generation=0)
        except PreconditionFailed:
            with _read():
                blob.reload(timeout=self._timeout, retry=None)
            if blob.size != size:
                self._send(blob, path, size, leash, generation=blob.generation or 0)

    def names(self, place: Place) -> Sequence[str]:
        """Every object below `place`."""
        found = self._client().list_blobs(
            place.bucket, prefix=place.prefix, page_size=_LIST_PAGE, timeout=self._timeout, retry=None
        )
        with _read():
            return [blob.name for blob in found]

    def download(self, place: Place, names: Iterable[str], to: Path, leash: Leash) -> None:
        """Write the objects to a new file, one after the other; each last row gets the newline that it may lack.

        Whatever is raised, no file stays behind.
        """
        bucket = self._client().bucket(place.bucket)
        with result_file(to) as target:
            for name in names:
                bucket.blob(name).download_to_file(LeashedFile(target, leash), timeout=self._timeout, retry=None)
                end_row(target)

    def delete(self, place: Place, leash: Leash) -> None:
        """Delete every object below `place`."""
        from google.api_core.exceptions import NotFound

        bucket = self._client().bucket(place.bucket)
        for name in self.names(place):
            leash.pull()
            try:
                with _read():
                    bucket.blob(name).delete(timeout=self._timeout, retry=None)
            except NotFound:
                continue

    def close(self) -> None:
        """Close connections."""
        with self._making:
            if self._made is not None:
                self._made.close()

    def _send(self, blob: _Blob, path: Path, size: int, leash: Leash, *, generation: int) -> None:
        with path.open("rb") as spool:
            blob.upload_from_file(
                LeashedFile(spool, leash),
                size=size,
                content_type="application/jsonl",
                if_generation_match=generation,
                timeout=self._timeout,
                retry=None,
            )

    def _client(self) -> _Client:
        with self._making:
            if self._made is None:
                self._made = _make_client(self._project, self._credentials.load(), self._url)
            return self._made


@contextmanager
def _read() -> Iterator[None]:
    """Around calls that the SDK reads an answer of. Raises `Retryable` where it stumbles over one that is none of the API's."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise Retryable(f"storage: the answer cannot be read: {type(error).__name__}") from error


def _make_client(project: str, credentials: Credentials, url: str) -> _Client:
    from google.api_core.client_options import ClientOptions
    from google.cloud import storage

    client = storage.Client(
        project=project, credentials=credentials, client_options=ClientOptions(api_endpoint=url.rstrip("/"))
    )
    # Else a thread of the SDK's own asks for the bucket, for traces: a right that nothing else here needs.
    client._bucket_metadata_cache = None  # noqa: SLF001 - there is only a variable of the environment beside it
    # A redirect that is followed would bring prompts to any host it names; the first one raises `TooManyRedirects`.
    client._http.max_redirects = 0  # noqa: SLF001 - a session given from outside is none of the SDK's own making
    return cast("_Client", client)
