"""Proves of the Dockerfile and its locks, without a build, that any builder understands them and nothing floats."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.images.build import LOCKS, ROOT, TARGETS

_PLAIN = {"ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER"}
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def _instructions() -> Iterator[tuple[str, str]]:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def test_only_plain_instructions_are_used_so_that_every_builder_understands_them() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert {word for word, _ in _instructions()} <= _PLAIN
    assert not re.search(r"^# *(syntax|check)=", text, re.MULTILINE)
    assert not re.search(r"--(mount|chmod|chown|link|network|security)|<<|\\$", text, re.MULTILINE)


def test_no_instruction_needs_a_shell() -> None:
    for word, rest in _instructions():
        if word in ("RUN", "ENTRYPOINT"):
            assert all(isinstance(part, str) for part in json.loads(rest)), rest


def test_no_registry_is_named() -> None:
    images = [rest.split("=")[1] for word, rest in _instructions() if word == "ARG" and "BASE=" in rest]
    assert images == ["python:3.11-slim-bookworm", "${BASE}"]


def test_every_image_runs_as_nobody_in_particular() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    final = {stage.split()[2]: stage for stage in stages[1:] if stage.split()[2] in TARGETS}
    assert set(final) == set(TARGETS)
    assert all("\nUSER 65532:65532\n" in stage for stage in final.values())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_an_image_carries_the_very_versions_that_the_tests_ran_with(lock: object) -> None:
    tested = dict(_PIN.findall((ROOT / "requirements.lock").read_text()))
    carried = dict(_PIN.findall(lock.read_text()))  # type: ignore[attr-defined]
    assert carried
    assert carried.items() <= tested.items()
