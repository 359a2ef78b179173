"""From a rollout's spec and what it refers to, to the revision it asks for and the gates in force. Never waits.

What has to be asked of the API server (a ConfigMap the cache never kept, a dry run, the snapshot of gate templates) is
asked in the background; until the answer is there the target is unknown, and nothing new starts. A revert needs none
of it.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from strategyrollout.api.assignment import Record
from strategyrollout.api.conditions import Reason
from strategyrollout.api.gates import Gate as WrittenGate
from strategyrollout.api.model import read_alone
from strategyrollout.api.rollout import OnBlind, RolloutSpec, Traffic
from strategyrollout.cluster.apply import Applier
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.cache import Body, Cache, Reference, data_of, name_of, uid_of
from strategyrollout.cluster.client import Api, Forbidden, NotFound
from strategyrollout.cluster.kinds import CLUSTER_TEMPLATES, CONFIGMAPS, REVISIONS, TEMPLATES
from strategyrollout.cluster.snapshots import Snapshots
from strategyrollout.core.build import Owner, gate_snapshot, gate_snapshot_name
from strategyrollout.core.gates import Gate
from strategyrollout.core.observed import Problem, Revision
from strategyrollout.core.resolve import in_force, kept_on_blind, kept_with_attempt
from strategyrollout.core.revision import Content, configmap_references, content_of, identified
from strategyrollout.ports import Key

_ABSENT_FOR_MS = 60_000
_AGAIN = 1.0
_HASH = 10
Wake = Callable[[Key], None]


def references(rollout: Body) -> list[Reference]:
    """What a rollout mentions, read from the raw object because its spec may not be readable as a whole."""
    namespace, spec = name_of(rollout)[0], rollout.get("spec") or {}
    found: list[Reference] = []
    template = spec.get("template")
    if isinstance(template, dict):
        found += [(CONFIGMAPS, namespace, reference.name) for reference in configmap_references(template)]
    gates = spec.get("gates")
    for gate in gates if isinstance(gates, list) else []:
        ref = gate.get("template") if isinstance(gate, dict) else None
        if isinstance(ref, dict) and ref.get("kind") == "ClusterGateTemplate":
            found.append((CLUSTER_TEMPLATES, "", str(ref.get("name"))))
        elif isinstance(ref, dict):
            found.append((TEMPLATES, namespace, str(ref.get("name"))))
    return found


def parse_spec(rollout: Body) -> tuple[RolloutSpec | None, tuple[Problem, ...]]:
    """The spec, or the field that keeps it from being read.

    A field that only a newer operator knows keeps everything from going on, but not gates and rollbacks from working:
    then both are returned, the spec without it and the problem.
    """
    spec = rollout.get("spec") or {}
    try:
        return RolloutSpec.model_validate(spec), ()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found[0]["loc"])
    problems = (Problem(Reason.INVALID_SPEC, found[0]["msg"].removeprefix("Value error, "), path),)
    return read_alone(RolloutSpec, spec), problems


def traffic_of(rollout: Body, spec: RolloutSpec | None) -> Traffic | None:
    """Who leads requests where. Also of a spec that cannot be read, because a revert must reach them."""
    return spec.traffic if spec is not None else read_alone(Traffic, (rollout.get("spec") or {}).get("traffic"))


@dataclass(frozen=True)
class Asked:
    """What the spec asks for, as far as it can be known at once."""

    target: Revision | None = None
    content: Content | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class GatesInForce:
    """Gates of the spec, resolved against the snapshot of the attempt or what is there now."""

    gates: tuple[Gate, ...] = ()
    problems: tuple[Problem, ...] = ()
    unjudged: tuple[str, ...] = ()
    """Gates of a spec that cannot be read, of which nothing is known."""
    on_blind: OnBlind | None = None
    """Of such a spec."""
    snapshot: str | None = None
    """What a new attempt would be judged by, stored under this name; None while it is not, or nothing judges it."""
    settled: bool = True
    """Whether everything a new attempt is judged by is stored."""
    refused: Problem | None = None
    """Why it is not."""


class Inputs:
    """`wake` is called when something that was not known has become known. `now` is in milliseconds since 1970."""

    def __init__(
        self,
        api: Api,
        cache: Cache,
        applier: Applier,
        background: Background,
        *,
        wake: Wake,
        now: Callable[[], int],
    ) -> None:
        self._api = api
        self._cache = cache
        self._applier = applier
        self._background = background
        self._wake = wake
        self._now = now
        self._snapshots = Snapshots(api, cache, background, wake=wake, now=now)
        self._specs: dict[Key, tuple[Hashable, tuple[RolloutSpec | None, tuple[Problem, ...]]]] = {}
        self._contents: dict[Key, tuple[Hashable, Asked]] = {}
        self._gates: dict[Key, tuple[Hashable, tuple[tuple[Gate, ...], tuple[Problem, ...]]]] = {}
        self._absent: dict[tuple[str, str], int] = {}
        self._tried: dict[Key, tuple[str, Problem | None]] = {}
        self._named: dict[Key, tuple[Hashable, str]] = {}

    def spec(self, key: Key, rollout: Body) -> tuple[RolloutSpec | None, tuple[Problem, ...]]:
        """The spec, parsed once a generation."""
        mark = (uid_of(rollout), rollout["metadata"].get("generation"))
        known = self._specs.get(key)
        if known is None or known[0] != mark:
            known = self._specs[key] = (mark, parse_spec(rollout))
        return known[1]

    def asked(self, key: Key, rollout: Body, spec: RolloutSpec, known: Mapping[str, Revision]) -> Asked:
        """The revision the spec asks for. `known` are the revisions that were accepted before."""
        found = self._content(key, rollout, spec)
        if found.target is None or found.target.hash in known:
            return found
        tried = self._tried.get(key)
        if tried is None or tried[0] != found.target.hash:
            work = partial(self._dry_run, key, rollout, spec, found)
            self._background.run(("dry run", key, found.target.hash), _AGAIN, work, partial(self._wake, key))
            return Asked()
        return Asked(found.target, found.content, (tried[1],) if tried[1] else ())

    def gates(self, key: Key, rollout: Body, spec: RolloutSpec | None, record: Record | None) -> GatesInForce:
        """The gates in force. In mid-attempt the attempt's own snapshot counts: of templates always, of gates where
        those written now cannot be used."""
        in_use = record.attempt.templates if record is not None and record.attempt is not None else None
        snapshot = self._cache.get(REVISIONS, key.namespace, in_use) if in_use else None
        kept = dict(data_of(snapshot or {}))
        written = tuple(spec.gates) if spec is not None else _readable_gates(rollout)
        live = self._live_templates(key.namespace, written)
        versions = tuple((name, body["metadata"].get("resourceVersion")) for name, body in sorted(live.items()))
        generation = (uid_of(rollout), rollout["metadata"].get("generation"))
        mark = (*generation, record and record.attempt and record.attempt.id, *versions, tuple(sorted(kept)))
        templates = {name: body["spec"] for name, body in live.items()}
        known = self._gates.get(key)
        if known is None or known[0] != mark:
            found = in_force(written, {**templates, **kept}, kept, whole=spec is not None)
            known = self._gates[key] = (mark, found)
        gates, problems = known[1]
        if spec is None:
            unjudged = tuple(sorted(_gate_names(rollout) - {gate.name for gate in gates}))
            return GatesInForce(gates, problems, unjudged, on_blind=_on_blind(rollout, kept))
        if not written or problems:
            return GatesInForce(gates, problems)
        to_keep = partial(kept_with_attempt, written, spec.on_blind, templates)
        name = self._snapshot(key, (*generation, versions), to_keep, in_use)
        refused = self._snapshots.refused(key) if name is None else None
        return GatesInForce(gates, problems, snapshot=name, settled=name is not None, refused=refused)

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._specs.pop(key, None)
        self._contents.pop(key, None)
        self._gates.pop(key, None)
        self._tried.pop(key, None)
        self._named.pop(key, None)
        self._snapshots.forget(key)

    def _content(self, key: Key, rollout: Body, spec: RolloutSpec) -> Asked:
        found: dict[str, Body] = {}
        unknown = False
        for reference in configmap_references(spec.template):
            body = self._cache.get(CONFIGMAPS, key.namespace, reference.name)
            if body is not None:
                found[reference.name] = body
            elif self._now() - self._absent.get((key.namespace, reference.name), -_ABSENT_FOR_MS) >= _ABSENT_FOR_MS:
                unknown = True
                self._look_for(key, reference.name)
        if unknown:
            return Asked()
        versions = tuple((name, uid_of(body), body["metadata"]["resourceVersion"]) for name, body in found.items())
        mark = (uid_of(rollout), rollout["metadata"].get("generation"), versions)
        known = self._contents.get(key)
        if known is None or known[0] != mark:
            content = content_of(spec, found)
            asked = Asked(identified(content), content) if isinstance(content, Content) else Asked(problems=content)
            known = self._contents[key] = (mark, asked)
        return known[1]

    def _look_for(self, key: Key, name: str) -> None:
        async def look() -> None:
            try:
                self._cache.put(CONFIGMAPS, await self._api.get(CONFIGMAPS.path(key.namespace, name)))
            except (NotFound, Forbidden):
                self._absent[key.namespace, name] = self._now()
            self._wake(key)

        self._background.run(("ConfigMap", key.namespace, name), _AGAIN, look, partial(self._wake, key))

    async def _dry_run(self, key: Key, rollout: Body, spec: RolloutSpec, asked: Asked) -> None:
        assert asked.target is not None
        assert asked.content is not None
        owner = Owner(key.namespace, key.name, uid_of(rollout))
        problem = await self._applier.dry_run(owner, asked.target.hash, asked.content, port=spec.traffic.port)
        self._tried[key] = (asked.target.hash, problem)
        self._wake(key)

    def _live_templates(self, namespace: str, gates: tuple[WrittenGate, ...]) -> dict[str, Body]:
        found = {}
        for gate in gates:
            if gate.template is None:
                continue
            kind = CLUSTER_TEMPLATES if gate.template.kind == "ClusterGateTemplate" else TEMPLATES
            body = self._cache.get(kind, namespace, gate.template.name)
            if body is not None:
                found[f"{gate.template.kind}/{gate.template.name}"] = body
        return found

    def _snapshot(
        self, key: Key, asked: tuple[Hashable, ...], to_keep: Callable[[], Body], in_use: str | None
    ) -> str | None:
        owner = Owner(key.namespace, key.name, str(asked[0]))
        known = self._named.get(key)
        if known is None or known[0] != asked:
            known = self._named[key] = (asked, gate_snapshot_name(owner, to_keep()))
        name = known[1]
        if self._cache.get(REVISIONS, key.namespace, name) is None:
            self._snapshots.stored(key, gate_snapshot(owner, to_keep()))
            return None
        self._snapshots.remove_unused(key, owner.uid, gate_snapshot_name(owner, {})[:-_HASH], {name, in_use})
        return name


def _readable_gates(rollout: Body) -> tuple[WrittenGate, ...]:
    """Those gates of a spec that cannot be read as a whole which can be read by themselves."""
    gates = (rollout.get("spec") or {}).get("gates")
    found = [read_alone(WrittenGate, gate) for gate in gates] if isinstance(gates, list) else []
    return tuple(gate for gate in found if gate is not None)


def _gate_names(rollout: Body) -> set[str]:
    gates = (rollout.get("spec") or {}).get("gates")
    return {str(gate.get("name")) for gate in gates if isinstance(gate, dict)} if isinstance(gates, list) else set()


def _on_blind(rollout: Body, kept: Body) -> OnBlind:
    written = (rollout.get("spec") or {}).get("onBlind")
    alone = read_alone(OnBlind, written) if written is not None else None
    return alone or kept_on_blind(kept)
