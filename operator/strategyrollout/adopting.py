"""Tables that a person's override wrote while no operator ran, put on record by the operator that finds them.

Whoever writes a table keeps the evidence of it, but an override runs on a person's machine, where nobody will look for
any. So the record of why traffic moved would have a gap exactly where a person moved it.
"""

import logging

from strategyrollout.core.decision import Decision
from strategyrollout.core.observed import Observed
from strategyrollout.ports import Evidence, Key

_log = logging.getLogger(__name__)


class Adoptions:
    """What an operator reported in status it has seen, so a table with a higher epoch was seen by none before."""

    def __init__(self, evidence: Evidence | None) -> None:
        self._evidence = evidence
        self._known: dict[Key, int] = {}

    def wrote(self, key: Key, epoch: int) -> None:
        """This process wrote a table, with evidence of its own."""
        self._known[key] = epoch

    def saw(self, key: Key, world: Observed, decision: Decision) -> None:
        """Puts the stored table on record if it is an override's that no operator has seen; once, before anything
        else is written. A process that dies before its first report leaves that to the next, which may say it again."""
        stored = world.stored
        if stored is None or stored.spec.cause.kind != "Override":
            return
        table, known = stored.spec, max(world.status.epoch, self._known.get(key, 0))
        if table.epoch <= known:
            return
        self._known[key] = table.epoch
        by = table.cause.by or "somebody"
        _log.warning("%s: epoch %s was written by override, by %s: %s", key, table.epoch, by, table.cause.message)
        if self._evidence is not None:
            found = {"resourceVersion": stored.resource_version, "seenAt": world.now, "after": known}
            self._evidence.adopted(world, decision, {**found, "spec": table.to_json()})

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        self._known.pop(key, None)
