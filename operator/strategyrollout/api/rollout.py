"""`StrategyRollout`: the workload and how it is rolled out. Everything a person writes; status is in `status.py`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from strategyrollout.api.gates import Gate
from strategyrollout.api.model import Model, rule, rules
from strategyrollout.api.scalars import DIGEST_PATTERN, Duration, Name, Percent, SemVer

_DIGEST_RULE = rule(
    f"self.matches('{DIGEST_PATTERN.replace(chr(92), chr(92) * 2)}')",
    "image must be pinned by digest (name@sha256:<64 hex>); a tag can change under a running strategy",
    message_expression="'image ' + self + ' must be pinned by digest (name@sha256:<64 hex>)'",
)

_CONTAINER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "required": ["name", "image"],
    "properties": {
        "name": {"type": "string", "maxLength": 63, "minLength": 1},
        "image": {"type": "string", "maxLength": 512, "x-kubernetes-validations": [_DIGEST_RULE]},
    },
}


def _containers(max_items: int) -> dict[str, Any]:
    return {
        "type": "array",
        "maxItems": max_items,
        "items": _CONTAINER_SCHEMA,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }


_TEMPLATE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "metadata": {
            "type": "object",
            "properties": {
                key: {
                    "type": "object",
                    "maxProperties": 64,
                    "additionalProperties": {"type": "string", "maxLength": 16384},
                }
                for key in ("labels", "annotations")
            },
        },
        "spec": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "required": ["containers"],
            "properties": {
                "containers": {**_containers(16), "minItems": 1},
                "initContainers": _containers(16),
            },
        },
    },
}

PodTemplate = Annotated[dict[str, Any], Field(json_schema_extra={"x-replace": _TEMPLATE_SCHEMA})]
"""A real PodTemplateSpec, kept as the user wrote it; `x-replace` tells the schema generator its shape."""


class Hold(Model):
    """How long a step stays. Without `duration` it waits for a person's `resume`."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("!has(self.minSamples)", "hold.minSamples is not supported yet; remove it"))
    )
    duration: Duration | None = None
    min_samples: int | None = Field(None, description="Not supported yet; refused.")


_REFUSED_STEP: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True, "type": "object"}


class CanaryStep(Model):
    """One step of a canary: a share of the accounts, held for a time."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.shadow)", "shadow steps are not supported yet; remove the step"),
            rule(
                "!has(self.approval)", "approval steps are not supported yet; use a hold without duration and `resume`"
            ),
            rule("!has(self.hook)", "hook steps are not supported yet; remove the step"),
            rule(
                "has(self.weight) || has(self.shadow) || has(self.approval) || has(self.hook)",
                "a step needs a weight, such as weight: 10%",
            ),
        )
    )
    weight: Percent | None = None
    hold: Hold | None = Field(None, description="Default: no hold, go on when the gates pass.")
    shadow: dict[str, Any] | None = Field(
        None, json_schema_extra=_REFUSED_STEP, description="Not supported yet; refused."
    )
    approval: dict[str, Any] | None = Field(
        None, json_schema_extra=_REFUSED_STEP, description="Not supported yet; refused."
    )
    hook: dict[str, Any] | None = Field(
        None, json_schema_extra=_REFUSED_STEP, description="Not supported yet; refused."
    )


class Canary(Model):
    """Steps in rising order; 100 % follows the last one."""

    steps: list[CanaryStep] = Field(min_length=1, max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})


class Preview(Model):
    """Green runs and is tested, and gets no traffic."""

    replicas: int | None = Field(None, ge=1, le=1000, description="Default: spec.replicas.")
    duration: Duration | None = Field(None, description="How long it must pass its gates before the switch.")


class BlueGreen(Model):
    """Two full stacks, one switch."""

    preview: Preview = Field(default_factory=Preview)
    promote: Literal["Automatic", "Manual"] = Field("Automatic", description="Manual waits for `resume` or `promote`.")


class Method(Model):
    """How a new revision gets its traffic."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.type == 'Canary' ? has(self.canary) : !has(self.canary)",
                "set method.canary exactly when type is Canary",
            ),
            rule(
                "self.type == 'BlueGreen' || !has(self.blueGreen)", "set method.blueGreen only when type is BlueGreen"
            ),
        )
    )
    type: Literal["Canary", "BlueGreen"]
    canary: Canary | None = None
    blue_green: BlueGreen | None = None


class Unit(Model):
    """What is kept together by routing."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$", max_length=63)] = Field(
        description="Request header that carries the unit, such as X-Account-Id."
    )


class HAProxyProvider(Model):
    """Routers of the rollout's own: HAProxy with an agent, exact by unit, with acknowledged moves."""

    replicas: int = Field(2, ge=1, le=16)


class ServiceProvider(Model):
    """One Service that the operator creates and switches. No exact drain; see the table of guarantees."""

    name: Name


class LeaseTimes(Model):
    """How long a router may go on serving an untrusted revision without hearing from the API server."""

    rollout: Duration = Field(10_000, description="On the way up.")
    bake: Duration = Field(120_000, description="At 100 %, until promotion.")


class Traffic(Model):
    """Who is kept together, how long requests last, and exactly one provider."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.haproxy) != has(self.service)", "set exactly one of traffic.haproxy and traffic.service"),
            rule(
                "!has(self.haproxy) || has(self.unit)",
                "traffic.haproxy needs traffic.unit.header: who is kept together",
            ),
            rule(
                "!has(self.service) || !has(self.unit)",
                "traffic.service cannot route by unit; remove unit or use haproxy",
            ),
            rule(
                "duration(self.ackTimeout) >= duration('1s')",
                "traffic.ackTimeout must be 1s or more",
            ),
            rule(
                "duration(self.lease.rollout) >= duration('1s') && duration(self.lease.bake) >= duration('1s')",
                "traffic.lease times must be 1s or more",
            ),
        )
    )
    unit: Unit | None = None
    port: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=15)] = Field(
        "orders", description="Name of the container port that takes the requests."
    )
    drain: Duration = Field(
        1_000, description="At least the longest request; the router cuts what lasts longer. 0s means one-write flips."
    )
    ack_timeout: Duration = Field(
        30_000, description="An increase not acknowledged by every router by then is withdrawn."
    )
    on_unreachable: Literal["Hold", "Thaw"] = Field(
        "Hold",
        description="A rollback after promotion and a router that does not answer: wait, or give the ranges back.",
    )
    lease: LeaseTimes = Field(default_factory=LeaseTimes)
    haproxy: HAProxyProvider | None = Field(None, alias="haproxy")
    service: ServiceProvider | None = None


class Bake(Model):
    """After 100 %: the previous revision stays warm and the gates stay armed."""

    duration: Duration = 0


class OnBlind(Model):
    """When the operator cannot ask Prometheus for `after`."""

    action: Literal["Hold", "Revert", "Continue"] = "Hold"
    after: Duration = 120_000


class OnRevert(Model):
    """What a revert leaves behind."""

    keep: Duration = Field(1_800_000, description="How long the pods of the reverted revision stay; 0s keeps them.")
    unready: Literal["MoveIfAnyReady", "Freeze"] = Field(
        "MoveIfAnyReady",
        description="When only some pods of the target are ready: move at once, or stay frozen until all are.",
    )
    quarantine: Duration = Field(
        86_400_000, description="How long `retry` is the only way back for the reverted revision."
    )


class RollbackPin(Model):
    """A standing request: nothing new starts while it is there."""

    to: str = Field("Previous", max_length=128, description="Previous, a version, or a revision hash.")
    reason: str = Field(min_length=1, max_length=512)


class RolloutSpec(Model):
    """Desired state of one strategy."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.workload == 'RequestDriven'",
                "workload Autonomous is not supported yet: such a strategy would trade at 0 % too",
            ),
            rule(
                "!has(self.traffic.service) || self.method.type == 'BlueGreen'",
                "traffic.service can only switch everything at once; use method BlueGreen or traffic.haproxy",
            ),
        )
    )
    version: SemVer = Field(description="SemVer of the strategy together with its configuration.")
    workload: Literal["RequestDriven", "Autonomous"]
    replicas: int = Field(1, ge=0, le=1000)
    template: PodTemplate
    method: Method
    bake: Bake = Field(default_factory=Bake)
    traffic: Traffic
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    initial: Literal["Direct", "Gated"] = "Direct"
    on_blind: OnBlind = Field(default_factory=OnBlind)
    on_revert: OnRevert = Field(default_factory=OnRevert)
    rollback: RollbackPin | None = None
    paused: bool = False
    progress_deadline: Duration = 600_000
    on_deadline: Literal["Report", "Revert"] = "Report"
    settle: Duration = Field(5_000, description="Inputs must be quiet for this long before an attempt starts.")
    revision_history_limit: int = Field(5, ge=0, le=50)
