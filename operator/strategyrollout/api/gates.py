"""What users write about health: gates of a rollout, and the templates platform teams keep for everyone."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from strategyrollout.api.model import Model, Remedy, between, by_key, refused, rule, rules
from strategyrollout.api.scalars import DecimalString, Duration, Name, ParamName

When = Literal["PreTrade", "Rollout", "Bake", "Always"]
Reduce = Literal["Worst", "Max", "Min", "Sum"]
Severity = Literal["Stop", "Promote", "Observe"]
NoDataAction = Literal["Hold", "Revert", "Continue"]
LimitText = Annotated[
    str,
    Field(max_length=64, pattern=r"^(-?[0-9]{1,15}(\.[0-9]{1,9})?|\{[a-z][a-zA-Z0-9]{0,31}\})$"),
    Remedy(
        'must be a decimal number in quotes, such as "0.05" (in a template also the name of a parameter: "{limit}")'
    ),
]
LabelName = Annotated[
    str, Field(max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$"), Remedy("must be the name of a Prometheus label")
]
Address = Annotated[
    str,
    Field(max_length=512, pattern=r"^https?://\S+$"),
    Remedy("must be the base URL of a Prometheus, such as http://prometheus.monitoring:9090"),
]
Text = Annotated[str, Field(max_length=256)]


class Limit(Model):
    """The bound a value must keep. `above: "0.05"` is breached by a value greater than 0.05."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.above) || has(self.below)", "set limit.above, limit.below or both"))
    )
    above: LimitText | None = Field(None, description="Breached when the value is greater than this decimal.")
    below: LimitText | None = Field(None, description="Breached when the value is less than this decimal.")


class Failures(Model):
    """How many of the latest samples must breach before the gate does."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("self.breaches <= self.of", "failures.breaches must not exceed failures.of"))
    )
    breaches: int = Field(1, ge=1, le=100)
    of: int = Field(1, ge=1, le=100)


class NoData(Model):
    """What happens when the gate has had no usable sample for `after`."""

    action: NoDataAction = Field(
        "Hold", description="Hold: stay where it is. Revert: take traffic back. Continue: advance without this gate."
    )
    after: Duration = Field(
        60_000,
        description="How long without a usable sample before `action` applies.",
        json_schema_extra=between("0s", "24h"),
    )


class SourceLabels(Model):
    """The names under which the query's result carries whom a row is about."""

    namespace: LabelName = "namespace"
    rollout: LabelName = "rollout"
    revision: LabelName = "revision"


class Source(Model):
    """Where and how a query is asked. Everything has a default; set what differs on your Prometheus."""

    address: Address | None = Field(None, description="Base URL; default: the operator's own setting.")
    labels: SourceLabels = Field(default_factory=SourceLabels)
    require: dict[str, Text] = Field(
        default_factory=dict,
        max_length=8,
        description="Labels a row must have with exactly this value; others are dropped.",
    )
    ignore: list[LabelName] = Field(
        default_factory=list, max_length=8, description="Labels that may differ between duplicates (HA replicas)."
    )
    headers: dict[str, Text] = Field(
        default_factory=dict, max_length=8, description="Sent with each query (tenant ids)."
    )


class PrometheusQuery(Model):
    """A query of the rollout's own. It is asked once for the whole cluster, never once a rollout."""

    query: str = Field(min_length=1, max_length=4096)
    source: Source = Field(default_factory=Source)


class TemplateRef(Model):
    """A gate template by kind and name."""

    kind: Literal["GateTemplate", "ClusterGateTemplate"]
    name: Name


def _rollout_and_bake() -> list[When]:
    return ["Rollout", "Bake"]


class Gate(Model):
    """One health question of a rollout: a template with parameters, or a query of its own with a limit."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template) != has(self.prometheus)", "set exactly one of template and prometheus"),
            rule("!has(self.prometheus) || has(self.limit)", "a gate with its own query needs a limit"),
            rule("!has(self.params) || has(self.template)", "params belong to a template; put numbers into limit here"),
            rule("!has(self.compare)", "compare is not supported yet; remove it or use an absolute limit"),
            rule("!has(self.sessions)", "sessions is not supported yet; remove it"),
            rule(
                "!has(self.limit) || ((!has(self.limit.above) || !self.limit.above.startsWith('{'))"
                " && (!has(self.limit.below) || !self.limit.below.startsWith('{')))",
                'a limit here must be a number such as "0.05"; {names} belong into templates',
            ),
        )
    )
    name: Name
    when: list[When] = Field(
        default_factory=_rollout_and_bake,
        min_length=1,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="PreTrade: before the first unit of traffic. Rollout: at every step. Bake: after 100 %. "
        "Always: for life.",
    )
    template: TemplateRef | None = None
    params: dict[str, DecimalString] | None = Field(None, max_length=16, description="Numbers for the template.")
    prometheus: PrometheusQuery | None = None
    limit: Limit | None = Field(None, description="Overrides the template's limit.")
    reduce: Reduce | None = Field(
        None,
        description="How several series of one revision become one judgement. "
        "Default Worst: every one must keep the limit.",
    )
    interval: Duration | None = Field(
        None, description="How often it is asked. Default 5s.", json_schema_extra=between("100ms", "1h")
    )
    max_age: Duration | None = Field(
        None, description="Samples older than this are no data. Default 15s.", json_schema_extra=between("100ms", "24h")
    )
    severity: Severity | None = Field(
        None,
        description="Stop: may revert. Promote: needed to advance, never reverts. Observe: recorded only. "
        "Default Stop.",
    )
    failures: Failures | None = None
    no_data: NoData | None = None
    compare: dict[str, str] | None = Field(None, json_schema_extra=refused(), description="Not supported yet; refused.")
    sessions: dict[str, str] | None = Field(
        None, json_schema_extra=refused(), description="Not supported yet; refused."
    )


class Param(Model):
    """A number that a rollout gives to the template."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.required != has(self.default)", "a parameter is either required: true or has a default")
        )
    )
    name: ParamName
    type: Literal["Decimal"] = "Decimal"
    summary: str = Field("", max_length=256)
    required: bool = False
    default: DecimalString | None = None


def _declared(side: str) -> dict[str, str]:
    return rule(
        f"!has(self.limit.{side}) || !self.limit.{side}.startsWith('{{')"
        f" || (has(self.params) && self.params.exists(p, '{{' + p.name + '}}' == self.limit.{side}))",
        f"limit.{side} names a parameter that params does not declare; add it to params",
        path=f".limit.{side}",
    )


class GateTemplateSpec(Model):
    """A reusable gate. Its query is asked once for every rollout that uses it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.sessions)", "sessions is not supported yet; remove it"), *map(_declared, ("above", "below"))
        )
    )
    summary: str = Field("", max_length=512)
    unit: str = Field("", max_length=32, description="For people: ratio, bps, seconds.")
    params: list[Param] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra=by_key("name"),
    )
    query: str = Field(min_length=1, max_length=4096)
    source: Source = Field(default_factory=Source)
    limit: Limit
    reduce: Reduce = "Worst"
    interval: Duration = Field(5_000, description="How often it is asked.", json_schema_extra=between("100ms", "1h"))
    max_age: Duration = Field(
        15_000, description="Samples older than this are no data.", json_schema_extra=between("100ms", "24h")
    )
    severity: Severity = "Stop"
    failures: Failures = Field(default_factory=Failures)
    no_data: NoData = Field(default_factory=NoData)
    sessions: dict[str, str] | None = Field(
        None, json_schema_extra=refused(), description="Not supported yet; refused."
    )
