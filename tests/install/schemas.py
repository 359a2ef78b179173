"""JSON schemas for kubeconform, made on this machine from the pinned sources of Kubernetes and the Prometheus Operator.

Why: kubeconform fetches its schemas from the internet, which tests do not have. The Kubernetes module has the same
OpenAPI document they are made from, and CRDs carry their own. Made once; later runs find them in the cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.build import TOOLS, BuildError, cache_root

Schema = dict[str, Any]
_KUBERNETES = ("kubernetes", "k8s.io/kubernetes")
_PROMETHEUS_OPERATOR = ("prometheus-operator", "github.com/prometheus-operator/prometheus-operator")
_MONITORING = ("podmonitors", "servicemonitors", "prometheusrules")
_OURS = Path(__file__).parents[2] / "crds"
LOCATION = "{{ .Group }}/{{ .ResourceKind }}-{{ .ResourceAPIVersion }}.json"
"""kubeconform's name of a schema's file; the group of the core API is `v1`."""


def source(module: str, path: str) -> Path:
    """Folder of a module's pinned source; fetched by Go if this machine does not have it yet."""
    command = ["go", "mod", "download", "-json", path]
    result = subprocess.run(command, cwd=TOOLS / module, capture_output=True, text=True, check=False)
    answer = json.loads(result.stdout or "{}")
    if result.returncode or answer.get("Error"):
        raise BuildError(f"the source of {path} cannot be had: {answer.get('Error') or result.stderr}")
    return Path(answer["Dir"])


def monitoring_crds() -> list[Path]:
    """The CRDs of the Prometheus Operator that the chart has objects for."""
    folder = source(*_PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    return [folder / f"monitoring.coreos.com_{plural}.yaml" for plural in _MONITORING]


def ensure() -> Path:
    """Folder of the schemas. They are made anew when a pinned version, our CRDs or this file has changed."""
    sums = [(TOOLS / module / "go.sum").read_bytes() for module, _ in (_KUBERNETES, _PROMETHEUS_OPERATOR)]
    ours = [path.read_bytes() for path in sorted(_OURS.glob("*.yaml"))]
    made_from = hashlib.sha256(b"\0".join([*sums, *ours, Path(__file__).read_bytes()])).hexdigest()[:16]
    folder = cache_root() / f"schemas-{made_from}"
    if not folder.exists():
        temporary = folder.with_suffix(".new")
        shutil.rmtree(temporary, ignore_errors=True)
        _write(temporary)
        temporary.rename(folder)
    return folder


def _write(folder: Path) -> None:
    folder.mkdir(parents=True)
    swagger = json.loads((source(*_KUBERNETES) / "api/openapi-spec/swagger.json").read_text())
    definitions = {name: _strict(schema) for name, schema in swagger["definitions"].items()}
    (folder / "definitions.json").write_text(json.dumps({"definitions": definitions}))
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            if name.startswith("io.k8s.api"):
                _put(folder, kind, {"$ref": f"../definitions.json#/definitions/{name}"})
    for path in [*sorted(_OURS.glob("*.yaml")), *monitoring_crds()]:
        for kind, schema in _of_crd(yaml.safe_load(path.read_text())):
            _put(folder, kind, schema)


def _put(folder: Path, kind: dict[str, str], schema: Schema) -> None:
    path = folder / (kind["group"] or "v1") / f"{kind['kind'].lower()}-{kind['version']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(schema))


def _of_crd(definition: Schema) -> Iterator[tuple[dict[str, str], Schema]]:
    spec = definition["spec"]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
        yield {"group": spec["group"], "version": version["name"], "kind": spec["names"]["kind"]}, schema


def _strict(schema: Any) -> Any:
    """The same schema, refusing unknown fields, in the words of JSON Schema."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    if reference := schema.get("$ref"):
        quantity = reference.endswith("api.resource.Quantity")
        return {"anyOf": [{"type": "string"}, {"type": "number"}]} if quantity else {"$ref": reference}
    made = {key: value for key, value in schema.items() if key != "format"}
    for key in ("items", "additionalProperties"):
        if key in schema:
            made[key] = _strict(schema[key])
    if "properties" in schema:
        made["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made
