"""What a container's process starts with: command line and environment, by the rules the Pod API documents."""

from __future__ import annotations

import base64
import re
from typing import Any, Protocol

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class NotYetError(RuntimeError):
    """Something the pod refers to does not exist yet; the message is what the pod's status shows."""


class Contents(Protocol):
    """Where contents of ConfigMaps and Secrets come from; None when there is no such object."""

    def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The ConfigMap's data."""

    def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The Secret's data, decoded."""


def decoded(kind: str, item: Object) -> dict[str, bytes]:
    """The data of a ConfigMap or Secret object as bytes."""
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in (item.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (item.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (item.get("binaryData") or {}).items()}


def field(pod: Object, path: str, node_name: str, host_address: str, address: str) -> str:
    """The value of a downward API `fieldRef`."""
    metadata, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": host_address,
    }
    if path not in known:
        raise NotYetError(f"fieldRef {path} is not supported by the test node")
    return str(known[path])


def expand(text: str, environment: dict[str, str]) -> str:
    """Replace `$(NAME)` of known names; `$$` stands for a dollar sign, unknown names stay as they are."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


def _lookup(contents: Contents, namespace: str, kind: str, reference: Object) -> dict[str, bytes] | None:
    name = reference["name"]
    data = contents.secret(namespace, name) if kind == "secret" else contents.config_map(namespace, name)
    if data is None and not reference.get("optional"):
        raise NotYetError(f'{kind.lower()} "{name}" not found')
    return data


def _from_sources(container: Object, namespace: str, contents: Contents) -> dict[str, str]:
    values: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        kind = "configMap" if "configMapRef" in source else "secret"
        data = _lookup(contents, namespace, kind, source[f"{kind}Ref"]) or {}
        prefix = source.get("prefix", "")
        values |= {prefix + key: value.decode() for key, value in data.items()}
    return values


def environment_of(
    container: Object, base: dict[str, str], fields: dict[str, Any], contents: Contents
) -> dict[str, str]:
    """All variables of a container; `base` is what every container of the pod gets, `fields` the rest of `field`."""
    namespace = fields["pod"]["metadata"]["namespace"]
    values = base | _from_sources(container, namespace, contents)
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        if "fieldRef" in source:
            values[entry["name"]] = field(path=source["fieldRef"]["fieldPath"], **fields)
        elif "configMapKeyRef" in source or "secretKeyRef" in source:
            kind = "configMap" if "configMapKeyRef" in source else "secret"
            reference = source[f"{kind}KeyRef"]
            data = _lookup(contents, namespace, kind, reference)
            if data is not None and reference["key"] in data:
                values[entry["name"]] = data[reference["key"]].decode()
            elif not reference.get("optional"):
                raise NotYetError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
        elif source:
            raise NotYetError(f"valueFrom {', '.join(source)} is not supported by the test node")
        else:
            values[entry["name"]] = expand(entry.get("value", ""), values)
    return values
