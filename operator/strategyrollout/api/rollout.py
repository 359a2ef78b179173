"""`StrategyRollout`: the workload and how it is rolled out. Everything a person writes; status is in `status.py`."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from strategyrollout.api.gates import Gate
from strategyrollout.api.model import Model, between, by_key, refused, rule, rules
from strategyrollout.api.scalars import (
    PERCENT_PATTERN,
    Duration,
    HeaderName,
    Percent,
    PortName,
    SemVer,
    ServiceName,
    Target,
)
from strategyrollout.api.template import PodTemplate

_PORT_RULE = rule(
    "self.template.spec.containers.exists(c,"
    " has(c.ports) && c.ports.exists(p, has(p.name) && p.name == self.traffic.port))",
    "no container has a port of the name given in traffic.port; add it to the ports of a container",
    message_expression="'no container has a port named ' + self.traffic.port + '; add ports: [{name: '"
    " + self.traffic.port + ', containerPort: ...}] to the container that takes the requests, or set traffic.port'",
    path=".traffic.port",
)
_MOST_STEPS = 32


def _rising() -> dict[str, str]:
    """Weights must rise. A literal list of positions, because the cost of a derived list cannot be estimated."""
    positions = f"{list(range(_MOST_STEPS - 1))}".replace(" ", "")
    here, there = (f"double(self[{i}].weight.replace('%', ''))" for i in ("i", "i + 1"))
    falls = (
        "i + 1 < self.size() && has(self[i].weight) && has(self[i + 1].weight)"
        f" && self[i].weight.matches(r'{PERCENT_PATTERN}') && self[i + 1].weight.matches(r'{PERCENT_PATTERN}')"
        f" && {here} >= {there}"
    )
    return rule(
        f"!{positions}.exists(i, {falls})",
        "weights must rise: every step greater than the one before it, the last at most 100%",
    )


class Hold(Model):
    """How long a step stays. Without `duration` it waits for a person's `resume`."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("!has(self.minSamples)", "hold.minSamples is not supported yet; remove it"))
    )
    duration: Duration | None = Field(
        None, description="Without it a person's `resume` ends the hold.", json_schema_extra=between("0s", "720h")
    )
    min_samples: int | None = Field(None, description="Not supported yet; refused.")


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
    weight: Percent | None = Field(None, description="Share of the units the candidate gets at this step.")
    hold: Hold | None = Field(None, description="Default: no hold, go on when the gates pass.")
    shadow: dict[str, Any] | None = Field(None, json_schema_extra=refused(), description="Not supported yet; refused.")
    approval: dict[str, Any] | None = Field(
        None, json_schema_extra=refused(), description="Not supported yet; refused."
    )
    hook: dict[str, Any] | None = Field(None, json_schema_extra=refused(), description="Not supported yet; refused.")


class Canary(Model):
    """Steps in rising order; 100 % follows the last one."""

    steps: list[CanaryStep] = Field(
        min_length=1, max_length=_MOST_STEPS, json_schema_extra=rules(_rising(), **{"x-kubernetes-list-type": "atomic"})
    )


class Preview(Model):
    """Green runs and is tested, and gets no traffic."""

    replicas: int | None = Field(None, ge=1, le=1000, description="Default: spec.replicas.")
    duration: Duration | None = Field(
        None,
        description="How long it must pass its gates before the switch.",
        json_schema_extra=between("0s", "720h"),
    )


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

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.header == oldSelf.header",
                "traffic.unit.header may not change: every unit would move at once; create another StrategyRollout",
            )
        )
    )
    header: HeaderName = Field(description="Request header that carries the unit, such as X-Account-Id.")


class HAProxyProvider(Model):
    """Routers of the rollout's own: HAProxy with an agent, exact by unit, with acknowledged moves."""

    replicas: int = Field(2, ge=1, le=16, description="Router pods.")


class ServiceProvider(Model):
    """One Service that the operator creates and switches. No exact drain; see the table of guarantees."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.name == oldSelf.name", "traffic.service.name may not change; create another StrategyRollout")
        )
    )
    name: ServiceName = Field(description="Created, owned and switched by the operator.")


class LeaseTimes(Model):
    """How long a router may go on serving an untrusted revision without hearing from the API server."""

    rollout: Duration = Field(10_000, description="On the way up.", json_schema_extra=between("1s", "10m"))
    bake: Duration = Field(120_000, description="At 100 %, until promotion.", json_schema_extra=between("1s", "1h"))


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
                "has(self.haproxy) == has(oldSelf.haproxy) && has(self.service) == has(oldSelf.service)",
                "the provider in traffic may not change; create another StrategyRollout",
            ),
        )
    )
    unit: Unit | None = None
    port: PortName = Field("orders", description="Name of the container port that takes the requests.")
    drain: Duration = Field(
        1_000,
        description="At least the longest request; the router cuts what lasts longer. 0s means one-write flips.",
        json_schema_extra=between("0s", "10m"),
    )
    ack_timeout: Duration = Field(
        30_000,
        description="An increase not acknowledged by every router by then is withdrawn.",
        json_schema_extra=between("1s", "1h"),
    )
    on_unreachable: Literal["Hold"] = Field(
        "Hold",
        description="A rollback after promotion and a router that does not answer: it is waited for by name.",
    )
    lease: LeaseTimes = Field(default_factory=LeaseTimes)
    haproxy: HAProxyProvider | None = Field(None, alias="haproxy")
    service: ServiceProvider | None = None


class Bake(Model):
    """After 100 %: the previous revision stays warm and the gates stay armed."""

    duration: Duration = Field(
        0, description="0s promotes as soon as the candidate has 100 %.", json_schema_extra=between("0s", "2160h")
    )


class OnBlind(Model):
    """When the operator cannot ask Prometheus for `after`."""

    action: Literal["Hold", "Revert", "Continue"] = Field(
        "Hold", description="Hold: stay where it is. Revert: take traffic back. Continue: advance by time alone."
    )
    after: Duration = Field(
        120_000, description="How long it must be blind before `action`.", json_schema_extra=between("0s", "24h")
    )


class OnRevert(Model):
    """What a revert leaves behind."""

    keep: Duration = Field(
        1_800_000,
        description="How long the pods of the reverted revision stay; 0s keeps them.",
        json_schema_extra=between("0s", "720h"),
    )
    unready: Literal["MoveIfAnyReady", "Freeze"] = Field(
        "MoveIfAnyReady",
        description="When only some pods of the target are ready: move at once, or stay frozen until all are.",
    )
    quarantine: Duration = Field(
        86_400_000,
        description="How long `retry` is the only way back for the reverted revision.",
        json_schema_extra=between("0s", "8760h"),
    )


class RollbackPin(Model):
    """A standing request: nothing new starts while it is there."""

    to: Target = Field("Previous", description="Previous, a version, or a revision hash.")
    reason: str = Field(min_length=1, max_length=512, description="In words; shown wherever the rollback is.")


class RolloutSpec(Model):
    """Desired state of one strategy."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.workload == 'RequestDriven'",
                "workload Autonomous is not supported yet: such a strategy would trade at 0 % too;"
                " use RequestDriven for strategies that act only when asked",
                path=".workload",
            ),
            _PORT_RULE,
            rule(
                "!has(self.traffic.service) || self.method.type == 'BlueGreen'",
                "traffic.service can only switch everything at once; use method BlueGreen or traffic.haproxy",
            ),
        )
    )
    version: SemVer = Field(description="SemVer of the strategy together with its configuration.")
    workload: Literal["RequestDriven", "Autonomous"] = Field(
        description="RequestDriven: acts only when asked, so no request means no trade. Autonomous: not supported yet."
    )
    replicas: int = Field(1, ge=0, le=1000, description="Pods of every revision that may carry all units soon.")
    template: PodTemplate
    method: Method
    bake: Bake = Field(default_factory=Bake)
    traffic: Traffic
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra=by_key("name"),
    )
    initial: Literal["Direct", "Gated"] = Field(
        "Direct", description="The first revision: everything as soon as it is ready, or by the steps."
    )
    on_blind: OnBlind = Field(default_factory=OnBlind)
    on_revert: OnRevert = Field(default_factory=OnRevert)
    rollback: RollbackPin | None = None
    paused: bool = Field(False, description="Nothing advances; gates and rollbacks work.")
    progress_deadline: Duration = Field(
        600_000,
        description="Without progress for this long the rollout is Stalled. Holds and bakes do not count.",
        json_schema_extra=between("1s", "168h"),
    )
    on_deadline: Literal["Report", "Revert"] = Field("Report", description="What happens then.")
    settle: Duration = Field(
        5_000,
        description="Inputs must be quiet for this long before an attempt starts.",
        json_schema_extra=between("0s", "10m"),
    )
    revision_history_limit: int = Field(5, ge=0, le=50, description="Retired revisions that are kept.")
