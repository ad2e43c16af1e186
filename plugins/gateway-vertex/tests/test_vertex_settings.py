"""The keys of a table: what has to be there, and which addresses come of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from vertex_lab import TABLE

from gateway.testing import FakeClock
from gateway_vertex import VertexProvider
from gateway_vertex.places import Place
from gateway_vertex.settings import VertexSettings


def settings(**changes: object) -> VertexSettings:
    """A table with what every table has to have."""
    return VertexSettings.model_validate({**TABLE, **changes})


@pytest.mark.parametrize("missing", ["project", "bucket"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(missing: str, value: object) -> None:
    """A table without project or bucket is refused, and the mistake says what to set."""
    table = {key: chosen for key, chosen in TABLE.items() if key != missing}
    with pytest.raises(ValidationError) as caught:
        VertexSettings.model_validate(table if value is None else {**table, missing: value})
    [mistake] = caught.value.errors()

    assert mistake["loc"] == (missing,)
    assert mistake["msg"].startswith("set it to ")


@pytest.mark.parametrize(
    "bucket", ["acme-batches", "gs://", "gs:///x", "s3://acme", "gs://Acme", "gs://a", "https://acme"]
)
def test_a_bucket_is_a_cloud_storage_address(bucket: str) -> None:
    """A bucket that is no gs:// address is a mistake that is told at the start."""
    with pytest.raises(ValidationError, match="Cloud Storage bucket"):
        settings(bucket=bucket)


@pytest.mark.parametrize(
    ("bucket", "prefix"),
    [("gs://acme", ""), ("gs://acme/", ""), ("gs://acme/a", "a/"), ("gs://acme/a/b/", "a/b/")],
)
def test_a_bucket_may_have_a_prefix(bucket: str, prefix: str) -> None:
    """Objects of a batch are below the bucket's prefix and the marker, with or without slashes at its end."""
    place = settings(bucket=bucket).place.of_batch("m")

    assert place == Place(bucket="acme", prefix=f"{prefix}m/")
    assert (place.input_name, place.output.uri) == (f"{prefix}m/input.jsonl", f"gs://acme/{prefix}m/output/")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("us", "https://aiplatform.us.rep.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
@pytest.mark.parametrize("base_url", [None, "", "https://aiplatform.googleapis.com/"])
def test_googles_host_goes_by_location(location: str, url: str, base_url: str | None) -> None:
    """Without an address of its own a table goes to Google's host for its location, and to Google's Cloud Storage."""
    own = settings(location=location) if base_url is None else settings(location=location, base_url=base_url)

    assert (own.jobs_url, own.objects_url) == (url, "https://storage.googleapis.com")


def test_the_hosts_are_those_of_the_sdk() -> None:
    """Google's own client goes to the same host for every kind of location."""
    from google import genai
    from google.oauth2.credentials import Credentials

    for location in ("global", "us", "eu", "us-central1"):
        client = genai.Client(vertexai=True, project="p", location=location, credentials=Credentials(token="t"))
        assert client._api_client._http_options.base_url == settings(location=location).jobs_url + "/"


def test_an_address_of_another_serves_both_apis() -> None:
    """An address that is not Google's is taken for Cloud Storage's as well, unless that has one of its own."""
    alone = settings(base_url="http://127.0.0.1:9/vertex")
    both = settings(base_url="https://proxy.example", storage_url="https://objects.example")
    storage_only = settings(storage_url="https://objects.example")

    assert (alone.jobs_url, alone.objects_url) == ("http://127.0.0.1:9/vertex",) * 2
    assert (both.jobs_url, both.objects_url) == ("https://proxy.example", "https://objects.example")
    assert storage_only.objects_url == "https://objects.example"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/vertex", "http://localhost:1", "http://[::1]:1"])
def test_a_sandbox_needs_nothing(url: str) -> None:
    """An API on this machine needs no project, bucket or token; what is set is kept."""
    bare = VertexSettings.model_validate({"base_url": url, "api_key": "sandbox"})
    named = VertexSettings.model_validate({"base_url": url, "project": "mine", "access_token": ""})

    assert (bare.project, bare.bucket, bare.access_token.get_secret_value()) == ("sandbox", "gs://sandbox", "sandbox")
    assert (named.project, named.access_token.get_secret_value()) == ("mine", "")


def test_another_machine_is_no_sandbox() -> None:
    """An address elsewhere gets nobody's project and nobody's token."""
    with pytest.raises(ValidationError):
        VertexSettings.model_validate({"base_url": "http://10.0.0.1:1"})


def test_no_key_is_asked_for() -> None:
    """A table without api_key is not disabled for it: Google Cloud has credentials, not keys."""
    assert settings().api_key.get_secret_value() != ""


@pytest.mark.parametrize("key", ["Upper", "1st", "x" * 64, "dots.no"])
def test_a_label_key_has_to_be_one(key: str) -> None:
    """A label key that Google would refuse in every line is refused at the start."""
    with pytest.raises(ValidationError):
        settings(label_key=key)


def test_making_a_provider_looks_for_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider is made without asking files, the environment or a metadata server for credentials."""
    asked: list[object] = []
    monkeypatch.setattr("google.auth.default", lambda *_, **__: asked.append(1))
    VertexProvider("vertex", settings(access_token=""), FakeClock(), tmp_path)

    assert asked == []


def test_the_readme_has_every_key_with_its_default() -> None:
    """The README's table of settings names every key, and nothing that is none."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Settings")[2].partition("\n\nWith a")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    told = {row[1].strip().strip("`"): row[2].strip().strip("`") for row in rows}
    defaults = {key: field.default for key, field in VertexSettings.model_fields.items()}
    texts = ("location", "label_key", "late_system")
    numbers = ("timeout_seconds", "transfer_timeout_seconds")

    assert told.keys() == defaults.keys()
    assert {key: told[key] for key in texts} == {key: defaults[key] for key in texts}
    assert {key: float(told[key]) for key in numbers} == {key: defaults[key] for key in numbers}
