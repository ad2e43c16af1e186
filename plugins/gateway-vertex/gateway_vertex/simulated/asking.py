"""The body of a create call, checked as the jobs API checks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from gateway.reading import items, mapping, text
from gateway_vertex.simulated.buckets import parse_uri

_FIELDS = {
    "": frozenset(
        {
            *("name", "displayName", "model", "inputConfig", "outputConfig", "labels"),
            *("serviceAccount", "encryptionSpec", "instanceConfig", "modelParameters"),
        }
    ),
    "inputConfig": frozenset({"instancesFormat", "gcsSource", "bigquerySource"}),
    "outputConfig": frozenset({"predictionsFormat", "gcsDestination", "bigqueryDestination"}),
}
_MODEL = re.compile(r"(publishers/[^/]+/models/[^/]+|projects/[^/]+/locations/[^/]+/(models|endpoints)/[^/]+)")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MAX_NAME = 128


class Refused(Exception):
    """The call is answered with 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJob:
    """What a create call asks for."""

    display_name: str
    model: str
    input_uri: str
    bucket: str
    name: str
    output_uri: str
    labels: Mapping[str, str]


def read_job(content: bytes) -> AskedJob:
    """The job that is asked for. Raises `Refused`."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise Refused("Invalid JSON payload received.") from None
    if not isinstance(body, dict):
        raise Refused("Invalid JSON payload received. Root element must be a message.")
    for field, known in _FIELDS.items():
        if strange := (mapping(body.get(field)) if field else body).keys() - known:
            at = f" at 'batch_prediction_job.{field}'" if field else " at 'batch_prediction_job'"
            raise Refused(f'Invalid JSON payload received. Unknown name "{min(strange)[:64]}"{at}: Cannot find field.')
    display_name, model = text(body.get("displayName")), text(body.get("model")) or ""
    if display_name is None or len(display_name) > _MAX_NAME:
        raise Refused(f"display_name is required, and has at most {_MAX_NAME} characters.")
    if not _MODEL.fullmatch(model):
        raise Refused(f"The model name {model[:80]!r} is invalid.")
    input_uri = _input(mapping(body.get("inputConfig")))
    bucket, name = _object(input_uri)
    return AskedJob(
        display_name=display_name,
        model=model,
        input_uri=input_uri,
        bucket=bucket,
        name=name,
        output_uri=_output(mapping(body.get("outputConfig"))),
        labels=_labels(body.get("labels", {})),
    )


def labels_problem(labels: object) -> str | None:
    """What is wrong with the labels of a job or of a request; None: nothing."""
    if not isinstance(labels, dict):
        return "labels must be a map."
    if len(labels) > 64:
        return "At most 64 labels can be set."
    for key, label in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            return f"Label key {key[:80]!r} is invalid: lowercase letters, digits, _ and -, at most 63, a letter first."
        if not isinstance(label, str) or not _LABEL_VALUE.fullmatch(label):
            return f"Label value {str(label)[:80]!r} is invalid: lowercase letters, digits, _ and -, at most 63."
    return None


def _input(config: Mapping[str, object]) -> str:
    uris = items(mapping(config.get("gcsSource")).get("uris"))
    if config.get("instancesFormat") != "jsonl" or "bigquerySource" in config:
        raise Refused("This simulator reads instances_format 'jsonl' from Cloud Storage only.")
    if len(uris) != 1 or not isinstance(uris[0], str):
        raise Refused("input_config.gcs_source needs exactly one URI.")
    return uris[0]


def _object(uri: str) -> tuple[str, str]:
    found = parse_uri(uri)
    if found is None or not found[1]:
        raise Refused(f"{uri[:200]!r} is no Cloud Storage object.")
    return found


def _output(config: Mapping[str, object]) -> str:
    uri = text(mapping(config.get("gcsDestination")).get("outputUriPrefix"))
    if config.get("predictionsFormat") != "jsonl" or "bigqueryDestination" in config:
        raise Refused("This simulator writes predictions_format 'jsonl' to Cloud Storage only.")
    if uri is None or parse_uri(uri) is None:
        raise Refused("output_config.gcs_destination.output_uri_prefix must be a Cloud Storage prefix.")
    return uri


def _labels(labels: object) -> Mapping[str, str]:
    problem = labels_problem(labels)
    if problem is not None or not isinstance(labels, dict):
        raise Refused(problem or "labels must be a map.")
    return labels
