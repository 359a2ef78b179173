"""What is wrong with a command or a kubeconfig is told before anything is asked of a cluster."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from strategyrollout.cli.arguments import parse
from strategyrollout.cli.failure import Failed
from strategyrollout.cli.kubeconfig import find
from strategyrollout.cli.status import sentences, summary
from tests.cli.command import run

SERVER = {"name": "here", "cluster": {"server": "https://10.0.0.1:6443/", "insecure-skip-tls-verify": True}}


def kubeconfig(folder: Path, **changes: Any) -> Path:
    """With a token, and `desk-a` as the namespace of its context."""
    config = {
        "current-context": "desk",
        "clusters": [SERVER],
        "users": [{"name": "alice", "user": {"token": "secret"}}],
        "contexts": [
            {"name": "desk", "context": {"cluster": "here", "user": "alice", "namespace": "desk-a"}},
            {"name": "bare", "context": {"cluster": "here", "user": "alice"}},
        ],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config | changes))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollback", "momentum"], "--reason"),
        (["rollback", "momentum", "--reason", " "], "say why in 1 to 400 characters"),
        (["rollback", "momentum", "--reason", "x", "--timeout", "soon"], "'soon' is no time"),
        (["override", "momentum", "--to", "1.0.0"], "--reason"),
        (["status"], "NAME"),
        (["stauts", "momentum"], "invalid choice"),
        (["status", "momentum", "-o", "yaml"], "invalid choice"),
        ([], "COMMAND"),
    ],
    ids=[
        "no reason",
        "an empty reason",
        "a time that is none",
        "an override without a reason",
        "no name",
        "a word that is none",
        "an output that is none",
        "nothing",
    ],
)
async def test_wrong_use_is_told_and_has_an_exit_code_of_its_own(arguments: list[str], words: str) -> None:
    said = await run(None, *arguments)
    assert said.code == 2
    assert words in said.err


@pytest.mark.parametrize(
    "words", ["retry momentum 2.0.0 -n a", "retry momentum -n a 2.0.0", "-n a retry momentum 2.0.0"]
)
def test_options_may_stand_anywhere(words: str) -> None:
    parsed = parse(words.split())
    assert (parsed.name, parsed.revision, parsed.namespace) == ("momentum", "2.0.0", "a")


async def test_help_names_the_exit_codes() -> None:
    said = await run(None, "override", "--help")
    assert said.code == 0
    assert "0 done, 1 failed or refused, 2 wrong use, 3 timed out" in said.out
    assert "--close-router" in said.out


def test_the_namespace_is_that_of_the_context_unless_one_is_named(tmp_path: Path) -> None:
    path = str(kubeconfig(tmp_path))
    assert find(path, None, None).namespace == "desk-a"
    assert find(path, None, "desk-b").namespace == "desk-b"
    assert find(path, "bare", None).namespace == "default"
    access = find(path, None, None).access
    assert (access.host, access.token, access.verify) == ("https://10.0.0.1:6443", "secret", False)


def test_certificates_are_taken_from_the_kubeconfig_or_from_files_beside_it(tmp_path: Path) -> None:
    written = base64.b64encode(b"certificate").decode()
    (tmp_path / "key.pem").write_text("key")
    user = {"client-certificate-data": written, "client-key": "key.pem"}
    access = find(str(kubeconfig(tmp_path, users=[{"name": "alice", "user": user}])), None, None).access
    assert access.certificate is not None
    assert access.certificate.read_bytes() == b"certificate"
    assert access.certificate.parent.stat().st_mode & 0o077 == 0, "only we may read it"
    assert access.key == tmp_path / "key.pem"


def test_of_several_kubeconfigs_the_first_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    one = kubeconfig(first, contexts=[{"name": "desk", "context": {"cluster": "here", "namespace": "one"}}], users=[])
    two = kubeconfig(second)
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}:{tmp_path / 'missing'}")
    assert find(None, None, None).namespace == "one"
    assert find(None, "bare", None).namespace == "default"


def test_a_plugin_for_credentials_is_run_by_the_official_loader(tmp_path: Path) -> None:
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "fresh"}}
    plugin = {"apiVersion": version, "command": "echo", "args": [json.dumps(credential)]}
    users = [{"name": "alice", "user": {"exec": plugin | {"interactiveMode": "Never"}}}]
    assert find(str(kubeconfig(tmp_path, users=users)), None, None).access.token == "fresh"


@pytest.mark.parametrize(
    ("context", "changes", "words"),
    [
        ("desk-b", {}, "no context 'desk-b'"),
        (None, {"current-context": ""}, "no context ''"),
        (None, {"contexts": "nonsense"}, "cannot be used"),
    ],
    ids=["a context that is none", "none chosen", "nonsense"],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(
    context: str | None, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(Failed, match=words) as caught:
        find(str(kubeconfig(tmp_path, **changes)), context, None)
    assert caught.value.code == 2


async def test_no_kubeconfig_at_all_is_told(tmp_path: Path) -> None:
    said = await run(tmp_path / "none", "status", "momentum", "-o", "json", HOME=str(tmp_path))
    assert said.code == 2
    assert said.json["error"] == "there is no kubeconfig"
    assert "--kubeconfig" in said.json["hint"]


async def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    cluster = {"name": "here", "cluster": {"server": "http://127.0.0.1:9"}}
    said = await run(kubeconfig(tmp_path, clusters=[cluster]), "status", "momentum")
    assert said.code == 1
    assert "cannot be asked" in said.err


ROLLOUT: dict[str, Any] = {
    "metadata": {"namespace": "desk-a", "name": "momentum", "generation": 3},
    "spec": {"version": "2.4.0"},
    "status": {
        "observedGeneration": 3,
        "epoch": 42,
        "state": "Holding",
        "message": "2.4.0 step 3/6: 10% until 14:24:12Z",
        "step": "3/6",
        "revisions": [
            {
                "revision": "5f8c9d1e2a",
                "version": "2.3.1",
                "role": "Stable",
                "weight": "90%",
                "replicas": 2,
                "ready": 2,
            },
            {
                "revision": "9ab03e77aa",
                "version": "2.4.0",
                "role": "Candidate",
                "weight": "10%",
                "replicas": 2,
                "ready": 1,
            },
        ],
        "gates": [
            {
                "name": "drawdown",
                "verdict": "Pass",
                "value": "0.004",
                "limit": "<= 0.03",
                "sampledAt": "2026-11-21T10:00:00Z",
            }
        ],
        "traffic": {"waitingFor": [{"pod": "momentum-router-0", "acked": 41}]},
    },
}
TABLE: dict[str, Any] = {
    "spec": {
        "epoch": 42,
        "cause": {"kind": "Step", "message": "granted 10%", "at": 1},
        "ranges": [
            {"from": 0, "to": 999, "owner": "9ab03e77aa", "token": 1},
            {"from": 1000, "to": 9999, "owner": "5f8c9d1e2a", "token": 1},
        ],
        "record": {},
    }
}
NOW = 1_795_255_203.0


def test_people_read_sentences() -> None:
    assert "\n".join(sentences(summary(ROLLOUT, TABLE), NOW)) == (
        """momentum in desk-a: Holding (step 3/6)
  2.4.0 step 3/6: 10% until 14:24:12Z

  VERSION  REVISION    ROLE       SHARE  PODS
  2.3.1    5f8c9d1e2a  stable     90%    2/2
  2.4.0    9ab03e77aa  candidate  10%    1/2

  GATE      VERDICT  VALUE  LIMIT    SAMPLED
  drawdown  Pass     0.004  <= 0.03  3 s ago

  table         epoch 42: Step, granted 10%
  waiting for   momentum-router-0 (confirmed 41)"""
    )


def test_shares_are_those_of_the_table_although_the_report_is_old() -> None:
    revert = {"away": "9ab03e77aa", "to": "5f8c9d1e2a", "weight": 1000, "cause": {}, "servedAt": None}
    revert["cause"] = {
        "kind": "Override",
        "message": "override by alice: fills",
        "by": "alice",
        "at": 1_795_255_200_000,
    }
    ranges = [
        {"from": 0, "to": 999, "owner": "9ab03e77aa", "next": "5f8c9d1e2a", "token": 1},
        TABLE["spec"]["ranges"][1],
    ]
    held = {"spec": {**TABLE["spec"], "epoch": 50, "ranges": ranges, "record": {"revert": revert}}}
    facts = summary(ROLLOUT, held)
    assert [r["weight"] for r in facts["revisions"]] == ["90%", "0%"]
    assert facts["table"]["frozen"] == "10%"
    assert facts["lastRevert"]["by"] == "alice"
    text = "\n".join(sentences(facts, NOW))
    assert "! this report is old: the table was changed since (epoch 50, the report is about 42)" in text
    assert "! 10% of the accounts are frozen" in text
    assert "last revert   2.4.0 -> 2.3.1: Override, override by alice: fills" in text
    assert "NOT FINISHED" in text


def test_a_rollout_that_nobody_has_looked_at_yet_is_told() -> None:
    fresh = {"metadata": ROLLOUT["metadata"], "spec": ROLLOUT["spec"]}
    text = "\n".join(sentences(summary(fresh, None), NOW))
    assert "not reported yet" in text
    assert "the operator has not looked at it yet" in text
