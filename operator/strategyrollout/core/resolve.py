"""From what people wrote to gates that can be judged: templates, parameters, overrides and defaults, made one.

Kept apart from judging because everything that can be wrong with a gate's text is found here, once, with the path of
the field; what comes out needs no more checks. Parameters are numbers and end up in limits, never in a query's text.

An attempt keeps its gates as they were written when it began, beside their templates: when what is written now cannot
be used, it goes on being judged by those.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from strategyrollout.api import gates as written
from strategyrollout.api.conditions import Reason
from strategyrollout.api.gates import GateTemplateSpec, Limit
from strategyrollout.api.model import read_alone
from strategyrollout.api.rollout import OnBlind
from strategyrollout.core.gates import Gate, Query
from strategyrollout.core.observed import Problem

Templates = Mapping[str, Mapping[str, Any] | GateTemplateSpec]
"""`GateTemplate/name` or `ClusterGateTemplate/name` -> its `spec`."""

_GATES, _ON_BLIND = "gates", "onBlind"  # in a snapshot, beside templates, whose names have a slash


class _Wrong(Exception):
    """What is wrong with one gate, and in which field below it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def kept_with_attempt(
    gates: Iterable[written.Gate], on_blind: OnBlind, templates: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything a new attempt is judged by, as plain data that can be stored."""
    return {**templates, _GATES: [gate.to_json() for gate in gates], _ON_BLIND: on_blind.to_json()}


def kept_on_blind(kept: Mapping[str, Any]) -> OnBlind:
    """`onBlind` as the attempt began with it; the default where an older operator kept none."""
    return read_alone(OnBlind, kept.get(_ON_BLIND)) or OnBlind()


def in_force(
    now: Sequence[written.Gate], templates: Templates, kept: Mapping[str, Any], *, whole: bool
) -> tuple[tuple[Gate, ...], tuple[Problem, ...]]:
    """The gates in force, and what is wrong with those that are written now.

    One that cannot be used as it is written now stays as it was when the attempt began (`kept`). Without the `whole`
    spec one that is not there may only be unreadable, so it stays too.
    """
    gates, problems = resolve(now, templates)
    usable, named = {gate.name for gate in gates}, {gate.name for gate in now}
    began = [read_alone(written.Gate, gate) for gate in kept.get(_GATES) or []]  # by a newer operator, perhaps
    lost = [g for g in began if g is not None and g.name not in usable and (g.name in named or not whole)]
    return (*gates, *resolve(lost, kept)[0]), problems


def resolve(now: Sequence[written.Gate], templates: Templates) -> tuple[tuple[Gate, ...], tuple[Problem, ...]]:
    """The gates that can be judged, and what keeps the others from it. No gate is in both."""
    gates: list[Gate] = []
    problems: list[Problem] = []
    for gate in now:
        try:
            gates.append(_gate(gate, templates))
        except _Wrong as wrong:
            path = f"spec.gates[{gate.name}]" + (f".{wrong.field}" if wrong.field else "")
            problems.append(Problem(Reason.INVALID_GATE, f"{path}: {wrong}", path))
    return tuple(gates), tuple(problems)


def _gate(gate: written.Gate, templates: Templates) -> Gate:
    template = _own(gate) if gate.template is None else _template(gate.template, templates)
    limit = gate.limit or template.limit
    above, below = _limits(gate, template, limit)
    failures = gate.failures or template.failures
    no_data = gate.no_data or template.no_data
    query = Query(
        text=template.query.strip(),
        interval=template.interval if gate.interval is None else gate.interval,
        max_age=template.max_age if gate.max_age is None else gate.max_age,
        source=template.source,
    )
    if not query.text:
        raise _Wrong("prometheus.query" if gate.template is None else "template", "the query is empty; write one")
    return Gate(
        name=gate.name,
        query=query,
        when=frozenset(gate.when),
        above=above,
        below=below,
        reduce=gate.reduce or template.reduce,
        severity=gate.severity or template.severity,
        breaches=failures.breaches,
        of=failures.of,
        no_data=no_data.action,
        no_data_after=no_data.after,
    )


def _own(gate: written.Gate) -> GateTemplateSpec:
    """A gate with a query of its own is a template used once, so that both have the same defaults."""
    if gate.prometheus is None:
        raise _Wrong("", "set exactly one of template and prometheus")
    if gate.limit is None:
        raise _Wrong("limit", 'a gate with its own query needs a limit, such as limit: {above: "0.05"}')
    return GateTemplateSpec(query=gate.prometheus.query, source=gate.prometheus.source, limit=gate.limit)


def _template(ref: written.TemplateRef, templates: Templates) -> GateTemplateSpec:
    found = templates.get(f"{ref.kind}/{ref.name}")
    if found is None:
        where = "in the rollout's namespace" if ref.kind == "GateTemplate" else "in the cluster"
        raise _Wrong("template", f"there is no {ref.kind} {ref.name} {where}; create it or name another one")
    if isinstance(found, GateTemplateSpec):
        return found
    try:
        return GateTemplateSpec.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        raise _Wrong(
            "template", f"{ref.kind} {ref.name} cannot be read: {where}: {first['msg']}; mend it, or name another one"
        ) from error


def _limits(gate: written.Gate, template: GateTemplateSpec, limit: Limit) -> tuple[Decimal | None, Decimal | None]:
    params = _params(gate, template, limit)
    above = _bound(gate, "above", limit.above, params)
    below = _bound(gate, "below", limit.below, params)
    if above is None and below is None:
        raise _Wrong("limit", "there is no limit; set limit.above, limit.below or both")
    if above is not None and below is not None and above < below:
        raise _Wrong(
            "limit",
            f"every value breaks it, being above {above:f} or below {below:f}; above must not be less than below",
        )
    return above, below


def _params(gate: written.Gate, template: GateTemplateSpec, limit: Limit) -> dict[str, Decimal]:
    """Numbers by name: given, or the template's default. Each one given must be declared and have an effect."""
    declared = {param.name: param for param in template.params}
    used = {bound[1:-1] for bound in (limit.above, limit.below) if bound and bound.startswith("{")}
    given = gate.params or {}
    for name in given:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise _Wrong(f"params.{name}", f"the template has no such parameter (it has: {known}); remove or rename it")
        if name not in used:
            raise _Wrong(f"params.{name}", "it has no effect, because the limit in force does not name it; remove it")
    values = {name: param.default for name, param in declared.items() if param.default is not None} | given
    for name in sorted(used & declared.keys() - values.keys()):
        raise _Wrong(f"params.{name}", f'the template needs it; set params: {{{name}: "<number>"}}')
    return values


def _bound(gate: written.Gate, side: str, text: str | None, params: Mapping[str, Decimal]) -> Decimal | None:
    if text is None:
        return None
    if not text.startswith("{"):
        return Decimal(text)
    name = text[1:-1]
    if name in params:
        return params[name]
    if gate.limit is not None:
        raise _Wrong(f"limit.{side}", 'must be a number such as "0.05"; names in braces belong into templates')
    raise _Wrong(
        "template",
        f"its limit.{side} names {text}, which its params do not declare; declare it there or write a number",
    )
