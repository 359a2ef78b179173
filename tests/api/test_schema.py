"""The converter from models to structural schemas, and that the committed files are what the models say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from strategyrollout.api.generate import main, rendered, stale
from strategyrollout.api.model import Model, Remedy, between, refused, rule, rules
from strategyrollout.api.scalars import DURATION_PATTERN, DecimalString, Duration, Percent
from strategyrollout.api.schema import KINDS, crd_documents, root_schema
from strategyrollout.api.structural import Schema, SchemaError, structural


class Inner(Model):
    """Of two numbers."""

    low: int = Field(1, ge=0, le=10)
    high: int = Field(5, ge=0, le=2**40)


def _schema(annotation: Any, default: Any = ...) -> Schema:
    model = create_model("Sample", __base__=Model, a_field=(annotation, default))
    properties: Schema = structural(model)["properties"]
    field: Schema = properties["aField"]
    return field


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (Literal["One"], ..., {"type": "string", "enum": ["One"]}),
        (Literal["One", "Two"] | None, None, {"type": "string", "enum": ["One", "Two"]}),
        (bool, False, {"type": "boolean", "default": False}),
        (int, Field(2, ge=1, lt=8), {"type": "integer", "minimum": 1, "maximum": 7, "format": "int32", "default": 2}),
        (int, ..., {"type": "integer", "format": "int64"}),
        (Annotated[str, Field(max_length=9)] | None, None, {"type": "string", "maxLength": 9}),
        (dict[str, Any], Field(json_schema_extra=refused()), refused()["x-replace"]),
    ],
    ids=["constant", "optional choice", "switch", "bounded", "unbounded integer", "optional text", "kept as it is"],
)
def test_a_field_becomes_a_structural_node(annotation: Any, default: Any, expected: Schema) -> None:
    assert _schema(annotation, default) == expected


@pytest.mark.parametrize(
    ("annotation", "default", "written"),
    [(Duration, 5_400_000, "1h30m"), (Percent, 1_250, "12.5%"), (Percent, 25, "0.25%")],
)
def test_defaults_are_written_as_people_write_them(annotation: Any, default: int, written: str) -> None:
    assert _schema(annotation, default)["default"] == written


def test_the_default_of_an_object_is_complete_so_that_its_rules_can_be_judged() -> None:
    node = _schema(Inner, Field(default_factory=Inner))
    assert node["default"] == {"low": 1, "high": 5}
    assert node["properties"]["high"]["format"] == "int64"


def test_lists_are_atomic_unless_they_say_otherwise() -> None:
    node = _schema(list[Inner], Field(max_length=3))
    assert node["x-kubernetes-list-type"] == "atomic"
    assert node["items"]["type"] == "object"


def test_rules_of_a_field_and_of_its_model_both_hold() -> None:
    class Ruled(Model):
        """With a rule."""

        model_config = ConfigDict(json_schema_extra=rules(rule("self.low > 0", "first")))
        low: int = 1

    node = _schema(Ruled, Field(json_schema_extra=rules(rule("self.low < 9", "second"))))
    assert [entry["message"] for entry in node["x-kubernetes-validations"]] == ["first", "second"]


def test_a_pattern_brings_the_sentence_that_says_what_to_write() -> None:
    node = _schema(Annotated[str, Field(max_length=4, pattern="^a+$"), Remedy("must be an a or more")])
    assert node["x-kubernetes-validations"] == [rule("self.matches(r'^a+$')", "must be an a or more")]


def test_bounds_of_a_duration_are_part_of_the_one_sentence_about_it() -> None:
    node = _schema(Duration, Field(json_schema_extra=between("1s", "1h")))
    (only,) = node["x-kubernetes-validations"]
    assert only["message"].startswith("must be a duration from 1s to 1h")
    assert node["pattern"] == DURATION_PATTERN


class Recursive(Model):
    """Contains itself."""

    child: "Recursive | None" = None


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (str, "a string needs max_length"),
        (list[Inner], "a list needs max_length"),
        (dict[str, Inner], "a mapping needs max_length"),
        (float, "the API has no floats"),
        (Any, "a node needs a type"),
        (Inner | bool, "anyOf cannot be part of a structural schema"),
        (Annotated[str, Field(max_length=4, json_schema_extra={"pattern": "^(?=a)"})], "what RE2 does not have"),
        (Recursive, "Recursive contains itself"),
    ],
)
def test_what_the_api_server_would_refuse_fails_with_the_path_of_the_field(annotation: Any, complaint: str) -> None:
    with pytest.raises(SchemaError, match=r"^\.aField") as caught:
        _schema(annotation)
    assert complaint in str(caught.value)


def _nodes(node: Any) -> Iterator[Schema]:
    if isinstance(node, dict):
        if "type" in node and isinstance(node["type"], str):
            yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rules_say_what_to_do_in_one_line(kind: Any) -> None:
    entries = [entry for node in _nodes(root_schema(kind)) for entry in node.get("x-kubernetes-validations", ())]
    assert entries
    for entry in entries:
        assert "\n" not in entry["message"]
        assert len(entry["message"]) >= 15
        assert not entry["message"].endswith(".")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_of_a_spec_that_is_not_plain_is_described(kind: Any) -> None:
    nested = [node for node in _nodes(root_schema(kind)["properties"]["spec"]) if "properties" in node]
    assert any("description" in node for node in nested)


def test_every_kind_has_a_document_and_only_some_a_status() -> None:
    documents = {document["spec"]["names"]["kind"]: document for document in crd_documents()}
    assert set(documents) == {kind.name for kind in KINDS}
    with_status = {
        name
        for name, document in documents.items()
        if "status" in document["spec"]["versions"][0].get("subresources", {})
    }
    assert with_status == {"StrategyRollout", "Rollback"}


def test_a_model_is_converted_the_same_every_time() -> None:
    specs: list[type[BaseModel]] = [kind.spec for kind in KINDS]
    assert [structural(spec) for spec in specs] == [structural(spec) for spec in specs]


def test_the_committed_files_are_what_the_models_say() -> None:
    assert stale(Path(__file__).parents[2]) == {}


def test_check_names_the_stale_file_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    edited, left_over = tmp_path / "crds" / "rollbacks.yaml", tmp_path / "crds" / "former.yaml"
    edited.write_text(edited.read_text().replace("Namespaced", "Cluster"))
    left_over.write_text("kind: Former\n")
    assert main(["--check"], tmp_path) == 1
    complaint = capsys.readouterr().err
    assert "crds/rollbacks.yaml is stale; run `make generate`" in complaint
    assert "-  scope: Cluster" in complaint
    assert "crds/former.yaml is stale" in complaint
    assert main([], tmp_path) == 0
    assert stale(tmp_path) == {}


def test_the_reference_lists_every_reason_and_every_annotation() -> None:
    page = rendered()[Path("docs") / "reference.md"]
    for word in (
        "`ProgressDeadlineExceeded`",
        "`GatesPassing`",
        "`strategyrollout.io/rollback`",
        "`spec.traffic.drain`",
    ):
        assert word in page


def test_decimals_stay_exact() -> None:
    model = create_model("Sample", __base__=Model, a_field=(DecimalString, ...))
    assert model.model_validate({"aField": "0.10"}).model_dump(mode="json", by_alias=True) == {"aField": "0.10"}
