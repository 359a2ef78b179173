"""Why pods are not ready, in the words of whoever stopped them; looked at only while some are not, in the background.

Watching every pod of a cluster would cost more than all other watches together.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from strategyrollout.api.meta import LABEL_REVISION, LABEL_ROLE, LABEL_ROLLOUT, LABEL_ROLLOUT_UID, ROLE_ROUTER
from strategyrollout.cluster.background import Background
from strategyrollout.cluster.client import Api
from strategyrollout.cluster.kinds import PODS
from strategyrollout.ports import Key

Body = dict[str, Any]

_EVERY = 2.0
_LONGEST = 300
_HARMLESS = {"ContainerCreating", "PodInitializing"}


ROUTERS = "routers"
"""What stands in the place of a revision for the pods that route to revisions."""


class PodTroubles:
    """Keeps a sentence a revision, and one for routers. `wake` is called when one changes."""

    def __init__(self, api: Api, background: Background, wake: Callable[[Key], None]) -> None:
        self._api = api
        self._background = background
        self._wake = wake
        self._known: dict[tuple[Key, str], str] = {}

    def sentence(self, key: Key, uid: str, revision: str) -> str:
        """What is known now; asks for it anew when that is more than two seconds old."""
        work = partial(self._look, key, uid, revision)
        self._background.run(("pods", key, revision), _EVERY, work)
        return self._known.get((key, revision), "")

    def ready(self, key: Key, revision: str) -> None:
        """All pods are ready: nothing is wrong any more."""
        self._known.pop((key, revision), None)

    async def _look(self, key: Key, uid: str, revision: str) -> None:
        labels = f"{LABEL_ROLLOUT_UID}={uid},{LABEL_REVISION}={revision}"
        if revision == ROUTERS:  # no UID is among their labels, and a change of labels would restart them
            labels = f"{LABEL_ROLLOUT}={key.name},{LABEL_ROLE}={ROLE_ROUTER}"
        found = await self._api.list(PODS.path(key.namespace), labels=labels)
        sentence = trouble(found.get("items") or [])
        if sentence != self._known.get((key, revision), ""):
            self._known[key, revision] = sentence
            self._wake(key)


def trouble(pods: Iterable[Body]) -> str:
    """The worst that is said about any of the pods; empty when they are merely starting."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("name"))):
        if pod["metadata"].get("deletionTimestamp"):
            continue
        sentence = _of_containers(pod) or _of_pod(pod)
        if sentence:
            return f"pod {pod['metadata']['name']}: {sentence}"[:_LONGEST]
    return ""


def _of_containers(pod: Body) -> str:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state") or {}, (container.get("lastState") or {}).get("terminated")
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason") not in _HARMLESS and waiting.get("reason"):
            ending = f", last exit code {_exit(last)}" if last else ""
            return f"{waiting['reason']}{_because(waiting.get('message'))}{ending}"
        if ended and ended.get("exitCode"):
            return f"exited with code {ended['exitCode']} ({ended.get('reason') or 'no reason given'})"
        if last and last.get("exitCode") and not container.get("ready"):
            return f"restarted {container.get('restartCount', 0)} times, last exit code {_exit(last)}"
    return ""


def _exit(ended: Body) -> str:
    """137 alone does not tell that it was killed for its memory; `Error` tells nothing more."""
    reason = ended.get("reason") or "Error"
    return f"{ended.get('exitCode')}{'' if reason == 'Error' else f' ({reason})'}"


def _of_pod(pod: Body) -> str:
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return f"{status.get('reason') or 'Failed'}{_because(status.get('message'))}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason') or 'not scheduled'}{_because(condition.get('message'))}"
    return ""


def _because(message: str | None) -> str:
    return f" ({message})" if message else ""
