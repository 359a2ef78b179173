"""Answers of a Prometheus, row by row: who gets what, and why somebody gets nothing."""

from typing import Any

import pytest

from strategyrollout.api.gates import Source
from strategyrollout.metrics.answer import Subject, read, refused

AT = 1_000
BLUE: Subject = ("desk-a", "momentum", "0000000001")
GREEN: Subject = ("desk-a", "momentum", "0000000002")
OTHER: Subject = ("desk-b", "momentum", "0000000001")


def row(subject: Subject, value: str, **labels: str) -> dict[str, Any]:
    names = dict(zip(("namespace", "rollout", "revision"), subject, strict=True))
    return {"metric": {**names, **labels}, "value": [1.0, value]}


def vector(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(rows)}, **more}


def values(body: dict[str, Any], **source: Any) -> dict[Subject, list[str]]:
    answer = read(body, Source.model_validate(source), {BLUE, GREEN}, AT)
    assert (answer.blind, answer.invalid) == (False, False), answer.problem
    return {subject: [str(v) for v in numbers] for subject, numbers in answer.values.items()}


def test_rows_go_to_the_revision_they_name_and_to_nobody_else() -> None:
    body = vector(row(BLUE, "0.01"), row(GREEN, "2"), row(OTHER, "666"), row(GREEN, "1e-05", pod="b"))
    assert values(body) == {BLUE: ["0.01"], GREEN: ["2", "0.00001"]}


def test_numbers_keep_every_digit() -> None:
    body = vector(*(row(BLUE, text, n=text) for text in ("0.30000000000000004", "NaN", "+Inf", "-Inf")))
    assert values(body) == {BLUE: ["0.30000000000000004", "NaN", "Infinity", "-Infinity"]}


def test_labels_may_have_other_names() -> None:
    body = vector(
        {"metric": {"kubernetes_namespace": "desk-a", "app": "momentum", "rev": "0000000002"}, "value": [1, "5"]}
    )
    labels = {"namespace": "kubernetes_namespace", "rollout": "app", "revision": "rev"}
    assert values(body, labels=labels) == {GREEN: ["5"]}


def test_rows_without_a_required_label_value_are_dropped() -> None:
    body = vector(row(BLUE, "1", cluster="lon"), row(BLUE, "2", cluster="nyc"), row(BLUE, "3"))
    assert values(body, require={"cluster": "lon"}) == {BLUE: ["1"]}


@pytest.mark.parametrize("backwards", [False, True])
def test_duplicates_that_differ_in_ignored_labels_only_count_once(backwards: bool) -> None:
    rows = [row(BLUE, "1", pod="a", replica="0"), row(BLUE, "9", pod="a", replica="1"), row(BLUE, "4", pod="b")]
    body = vector(*(reversed(rows) if backwards else rows))
    assert {s: sorted(v) for s, v in values(body, ignore=["replica"]).items()} == {BLUE: ["1", "4"]}
    assert {s: sorted(v) for s, v in values(body).items()} == {BLUE: ["1", "4", "9"]}


@pytest.mark.parametrize(
    ("what", "body", "source", "problem"),
    [
        ("nothing", vector(), {}, "the query answered with no series"),
        ("about others only", vector(row(OTHER, "1")), {}, "the query answered 1 series, none of this revision"),
        (
            "not of the required cluster",
            vector(row(BLUE, "1")),
            {"require": {"cluster": "lon"}},
            "the query answered 1 series, none with the labels of source.require",
        ),
        (
            "a part of the data is missing",
            vector(row(BLUE, "1"), warnings=["store gateway 3 is away"]),
            {},
            "the answer may be incomplete, Prometheus warns: store gateway 3 is away",
        ),
        (
            "some without labels",
            vector({"metric": {"job": "legacy"}, "value": [1, "3"]}, row(OTHER, "1")),
            {},
            "the query answered 2 series, none for sure of this revision; the answer has series without the label "
            "namespace, rollout, revision; keep it, such as sum by (namespace, rollout, revision) (...)",
        ),
    ],
)
def test_an_answer_without_a_row_says_why(
    what: str, body: dict[str, Any], source: dict[str, Any], problem: str
) -> None:
    answer = read(body, Source.model_validate(source), {BLUE}, AT)
    assert (dict(answer.values), answer.problem) == ({}, problem), what
    assert (answer.blind, answer.invalid) == (False, False)


def test_rows_without_labels_do_not_harm_those_that_have_them() -> None:
    assert values(vector({"metric": {"job": "legacy"}, "value": [1, "3"]}, row(BLUE, "1"))) == {BLUE: ["1"]}


def test_remarks_of_prometheus_are_not_warnings() -> None:
    note = "PromQL info: metric might not be a counter, name does not end in _total"
    assert values(vector(row(BLUE, "1"), warnings=[note], infos=[note])) == {BLUE: ["1"]}


@pytest.mark.parametrize(
    ("what", "body", "problem"),
    [
        (
            "labels were aggregated away",
            vector({"metric": {"rollout": "momentum"}, "value": [1, "3"]}),
            "the answer has series without the label namespace, revision; keep it, such as "
            "sum by (namespace, rollout, revision) (...)",
        ),
        (
            "a number",
            {"data": {"resultType": "scalar", "result": [1, "3"]}},
            "the query answers a scalar, an instant vector is needed; write an expression with one series a revision, "
            "such as sum by (namespace, rollout, revision) (...)",
        ),
        (
            "a range",
            {"data": {"resultType": "matrix", "result": []}},
            "the query answers a matrix, an instant vector is needed; write an expression with one series a revision, "
            "such as sum by (namespace, rollout, revision) (...)",
        ),
        (
            "histograms",
            vector({"metric": {}, "histogram": [1, {}]}),
            "the query answers native histograms; take a number from them, such as histogram_quantile",
        ),
    ],
)
def test_what_only_a_person_can_mend_is_invalid(what: str, body: dict[str, Any], problem: str) -> None:
    answer = read(body, Source(), {BLUE}, AT)
    assert (answer.invalid, answer.blind, answer.problem) == (True, False, problem), what


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": {"resultType": "vector"}},
        vector({"metric": {}, "value": []}),
        vector(row(BLUE, "x")),
    ],
)
def test_what_no_prometheus_says_is_as_good_as_silence(body: dict[str, Any]) -> None:
    answer = read(body, Source(), {BLUE}, AT)
    assert (answer.blind, dict(answer.values)) == (True, {})
    assert "check source.address" in answer.problem


def test_a_refused_query_carries_the_words_of_prometheus() -> None:
    answer = refused({"errorType": "bad_data", "error": "1:5: parse error: unexpected end of input"}, AT)
    assert answer.problem == (
        "Prometheus refuses the query: 1:5: parse error: unexpected end of input; correct the query"
    )
    assert (answer.invalid, answer.blind) == (True, False)
