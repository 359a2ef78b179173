"""What runs together, and its name: the identity that decides whether anything is new at all.

The hash covers what people wrote (template, version) and what it refers to (contents of ConfigMaps), never anything
that the operator or the API server adds. Otherwise an upgrade of either would start a rollout of every strategy.
Changing `canonical_json` or `identified` does exactly that; golden hashes in the tests stand guard.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from strategyrollout.api.conditions import Reason
from strategyrollout.api.meta import GROUP, LABEL_REVISION
from strategyrollout.api.rollout import RolloutSpec
from strategyrollout.core.observed import Problem, Revision

Body = dict[str, Any]

PIN_PREFIX = f"sha256.{GROUP}/"
"""Template annotation `sha256.strategyrollout.io/<ConfigMap>: <hex>`: wait until the ConfigMap has this content.

An annotation, because a PodSpec has no field for it and a strict API server refuses unknown ones.
"""
MAX_BYTES = 900_000
"""What the ConfigMaps of a revision may weigh: one ControllerRevision must hold them, and etcd takes 1.5 MiB."""

_SHA256 = re.compile(r"^[a-f0-9]{64}$")


@dataclass(frozen=True)
class ConfigMapRef:
    """A ConfigMap that a template refers to, however often."""

    name: str
    optional: bool
    """Every reference to it is optional."""
    sha256: str | None
    path: str
    """Of the first reference that needs it, from the rollout's root."""


@dataclass(frozen=True)
class Content:
    """Everything a revision consists of; enough to build it again without the spec or any live ConfigMap."""

    version: str
    template: Body
    configmaps: Mapping[str, Body] = field(default_factory=dict)
    """Name -> {data, binaryData}, each only when it is not empty. An optional one that is missing is absent."""
    kept: Body | None = field(default=None, compare=False)
    """`data` of the ControllerRevision it was read from, as it stands there; None of one that is new."""


def canonical_json(value: Any) -> bytes:
    """One spelling for one meaning: sorted keys, no spaces, no nulls, whole numbers without a point."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def content_hash(configmap: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a ConfigMap's content, for the pin annotation. The same with kubectl:

    kubectl get cm NAME -o json | jq -jcS '{binaryData: (.binaryData // {}), data: (.data // {})}' | sha256sum
    """
    content = {key: configmap.get(key) or {} for key in ("binaryData", "data")}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def configmap_references(template: Mapping[str, Any]) -> tuple[ConfigMapRef, ...]:
    """Every ConfigMap the template refers to, by name, sorted. Ill-formed parts are left to the API server."""
    pins = _pins(template)
    found: dict[str, ConfigMapRef] = {}
    for path, node in _nodes(template):
        name, optional = node["name"], node.get("optional") is True
        known = found.get(name)
        if known is None or (known.optional and not optional):
            found[name] = ConfigMapRef(name, optional, pins.get(name), f"spec.template.{path}.name")
    return tuple(found[name] for name in sorted(found))


def rewrite_references(template: Mapping[str, Any], names: Mapping[str, str]) -> Body:
    """A copy of the template that refers to `names[old]` instead of `old`."""
    rewritten = copy.deepcopy(dict(template))
    for _, node in _nodes(rewritten):
        node["name"] = names.get(node["name"], node["name"])
    return rewritten


def content_of(spec: RolloutSpec, configmaps: Mapping[str, Body]) -> Content | tuple[Problem, ...]:
    """What the spec asks for, given the live ConfigMaps by name; or everything that is missing."""
    references = configmap_references(spec.template)
    problems = [*_bad_pins(spec.template, {r.name for r in references})]
    for reference in references:
        problem = _missing(reference, configmaps.get(reference.name))
        if problem is not None:
            problems.append(problem)
    if problems:
        return tuple(problems)
    used = {r.name: _data_of(configmaps[r.name]) for r in references if r.name in configmaps}
    size = sum(len(value) for data in used.values() for part in data.values() for value in part.values())
    if size > MAX_BYTES:
        text = f"the ConfigMaps take {size} bytes together, {MAX_BYTES} are allowed; put large data elsewhere"
        return (Problem(Reason.INVALID_TEMPLATE, text, "spec.template.spec"),)
    return Content(spec.version, spec.template, used)


def revision_of(spec: RolloutSpec, configmaps: Mapping[str, Body]) -> Revision | tuple[Problem, ...]:
    """Identity of what the spec asks for; or everything that stands against knowing it."""
    content = content_of(spec, configmaps)
    return identified(content) if isinstance(content, Content) else content


def identified(content: Content) -> Revision:
    """Names a content."""
    whole = {
        "version": content.version,
        "template": content.template,
        "configMaps": dict(content.configmaps),
    }
    name = hashlib.sha256(canonical_json(whole)).hexdigest()[:10]
    images = tuple(dict.fromkeys(_images(content.template)))
    digests = frozenset(image.partition("@")[2] for image in images if "@" in image)
    return Revision(name, content.version, digests, images)


def config_hash(content: Content) -> str:
    """First ten hex digits of the hash of the ConfigMaps alone; empty when there are none."""
    return hashlib.sha256(canonical_json(content.configmaps)).hexdigest()[:10] if content.configmaps else ""


def stored_data(content: Content, revision: Revision) -> Body:
    """`data` of the ControllerRevision that keeps the content."""
    return {
        "version": content.version,
        "template": content.template,
        "configMaps": dict(content.configmaps),
        "digests": sorted(revision.digests),
    }


def content_from(controller_revision: Mapping[str, Any]) -> Content | None:
    """The content a ControllerRevision keeps; None when it is not one of a revision."""
    data = controller_revision.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("template"), dict) or "version" not in data:
        return None
    return Content(str(data["version"]), data["template"], dict(data.get("configMaps") or {}), kept=dict(data))


def revision_from(controller_revision: Mapping[str, Any]) -> Revision | None:
    """The revision a ControllerRevision keeps, as it was named then; None when it is not one of a revision."""
    content = content_from(controller_revision)
    name = _dig(controller_revision, "metadata", "labels", LABEL_REVISION)
    if content is None or not isinstance(name, str):
        return None
    images = tuple(dict.fromkeys(_images(content.template)))
    return Revision(name, content.version, frozenset(controller_revision["data"].get("digests") or ()), images)


def _pins(template: Mapping[str, Any]) -> dict[str, Any]:
    annotations = _dig(template, "metadata", "annotations")
    if not isinstance(annotations, Mapping):
        return {}
    return {key.removeprefix(PIN_PREFIX): value for key, value in annotations.items() if key.startswith(PIN_PREFIX)}


def _bad_pins(template: Mapping[str, Any], referenced: set[str]) -> Iterator[Problem]:
    for name, value in _pins(template).items():
        path = f"spec.template.metadata.annotations[{PIN_PREFIX}{name}]"
        if name not in referenced:
            text = f"pins ConfigMap {name}, which the template does not refer to; correct the name or remove it"
            yield Problem(Reason.INVALID_TEMPLATE, text, path)
        elif not isinstance(value, str) or not _SHA256.match(value):
            text = f"must be the SHA-256 of ConfigMap {name} as 64 lower-case hex digits"
            yield Problem(Reason.INVALID_TEMPLATE, text, path)


def _missing(reference: ConfigMapRef, configmap: Mapping[str, Any] | None) -> Problem | None:
    name, pin = reference.name, reference.sha256
    if configmap is None:
        if reference.optional and pin is None:
            return None
        text = f"ConfigMap {name} does not exist; create it, or mark the reference optional"
        return Problem(Reason.MISSING_INPUT, text, reference.path)
    if pin is None or not _SHA256.match(str(pin)) or content_hash(configmap) == pin:
        return None
    text = f"ConfigMap {name} has content {content_hash(configmap)}, asked for is {pin}; apply that ConfigMap"
    return Problem(Reason.MISSING_INPUT, text, f"spec.template.metadata.annotations[{PIN_PREFIX}{name}]")


def _data_of(configmap: Mapping[str, Any]) -> Body:
    return {key: dict(configmap[key]) for key in ("data", "binaryData") if configmap.get(key)}


def _images(template: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("containers", "initContainers"):
        for _, container in _dicts(_dig(template, "spec", kind)):
            if isinstance(container.get("image"), str):
                yield container["image"]


def _nodes(template: Mapping[str, Any]) -> Iterator[tuple[str, Body]]:
    """(path below `template`, the reference itself) for every reference to a ConfigMap by name."""
    for path, node in _places(template):
        if isinstance(node, dict) and isinstance(node.get("name"), str) and node["name"]:
            yield path, node


def _places(template: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for kind in ("initContainers", "containers"):
        for i, container in _dicts(_dig(template, "spec", kind)):
            at = f"spec.{kind}[{i}]"
            for j, entry in _dicts(container.get("envFrom")):
                yield f"{at}.envFrom[{j}].configMapRef", entry.get("configMapRef")
            for j, entry in _dicts(container.get("env")):
                place = f"{at}.env[{j}].valueFrom.configMapKeyRef"
                yield place, _dig(entry, "valueFrom", "configMapKeyRef")
    for i, volume in _dicts(_dig(template, "spec", "volumes")):
        yield f"spec.volumes[{i}].configMap", volume.get("configMap")
        for j, source in _dicts(_dig(volume, "projected", "sources")):
            yield f"spec.volumes[{i}].projected.sources[{j}].configMap", source.get("configMap")


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _dicts(value: Any) -> Iterator[tuple[int, Body]]:
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, dict))
