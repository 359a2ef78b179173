"""The samples as objects, and a way to write down a change to one of them in a line."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import yaml

from strategyrollout.api.assignment import AssignmentSpec, Cause, Range
from strategyrollout.api.meta import API_VERSION, BUCKETS

Object = dict[str, Any]

SAMPLES: Final = Path(__file__).parents[2] / "manifests" / "samples"


class _Remove:
    """Marks a field that the change takes away."""


REMOVE: Final = _Remove()


def sample(file_name: str, index: int = 0) -> Object:
    """One object of a file under `manifests/samples/`."""
    documents = list(yaml.safe_load_all((SAMPLES / file_name).read_text()))
    document: Object = documents[index]
    return document


def all_samples() -> list[Object]:
    """Every object of every sample."""
    return [document for path in sorted(SAMPLES.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def changed(base: Object, changes: Mapping[str, Any]) -> Object:
    """A copy of `base` with other values at the given paths, such as `spec.gates.0.limit`; parents are made."""
    result = deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = result
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if isinstance(value, _Remove):
            del node[last]
        elif isinstance(node, list) and int(last) == len(node):
            node.append(value)
        else:
            node[int(last) if isinstance(node, list) else last] = value
    return result


def assignment(epoch: int = 7) -> Object:
    """A TrafficAssignment as the operator writes it: one revision has everything."""
    spec = AssignmentSpec(
        epoch=epoch,
        rollout_uid="1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b",
        salt="1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b",
        header="X-Account-Id",
        drain=250,
        lease=10_000,
        ranges=[Range(start=0, end=BUCKETS - 1, owner="5f8c9d01ab", token=epoch)],
        cause=Cause(kind="Initial", at=1_700_000_000_000),
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "TrafficAssignment",
        "metadata": {"name": "momentum"},
        "spec": spec.to_json(),
    }
