"""What people ask for in the middle of things, and what may and may not start again: cases 24 to 30 and 33."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.conformance.api_client import Object
from tests.conformance.conftest import MakeDesk
from tests.conformance.desk import Desk
from tests.conformance.manifests import add_image, steps

pytestmark = pytest.mark.cluster

PARK = steps(("10%", "1h"))
QUICK = steps(("10%", "500ms"), ("50%", "500ms"))


async def _reverted(desk: Desk, **spec: Any) -> None:
    """2.0.0 was stopped at 10 % by its gate; 1.0.0 serves."""
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=PARK, **spec)
    await desk.reaches("Holding", weight="10%")
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "0.9")
    await desk.reaches("Reverted")


async def test_case_24_a_rollback_outranks_a_promotion(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=PARK)
    await desk.reaches("Holding", weight="10%")
    words = {"strategyrollout.io/promote": "go", "strategyrollout.io/rollback": "no, back"}
    await desk.api.merge(desk.path(), {"metadata": {"annotations": words}})
    await desk.reaches("RolledBack")
    assert desk.weights("2.0.0") == [0, 1_000, 0]
    await desk.stays(2, "it stays so", lambda: desk.weight("1.0.0") == 10_000)


async def test_case_24_a_rollback_stops_a_promotion_under_way(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=PARK, bake={"duration": "1h"})
    await desk.reaches("Holding", weight="10%")
    await desk.annotate("promote", "go")
    await desk.until("it has begun", lambda: any(t.record.attempt and t.record.attempt.promote for t in desk.tables))
    await desk.annotate("rollback", "no, back")
    await desk.until("all are back", lambda: desk.table.record.attempt is None and desk.weight("1.0.0") == 10_000)
    # Either it came in time, or the promotion was over; then it goes back from there.
    assert desk.table.record.stable == desk.hashes["1.0.0"]


async def test_case_25_what_was_reverted_does_not_come_back_by_other_changes(desk: Desk) -> None:
    await _reverted(desk)
    image = add_image(desk.cluster.images, f"{desk.name}-2.0.0")
    changes: list[Object] = [{"method": QUICK}, {"method": PARK, "replicas": 2}, {"bake": {"duration": "1s"}}]
    for change in changes:
        await desk.apply("2.0.0", **change)
        await asyncio.sleep(0.5)
    await desk.api.merge(desk.path(), {"metadata": {"labels": {"team": "equities"}}})
    # The same digest under another name is another revision of the same bad image.
    await desk.apply("2.0.1", image=image, method=QUICK)
    await desk.reaches("Reverted")
    await desk.stays(2, "nothing starts", lambda: desk.table.record.attempt is None)
    assert (len(desk.attempts("2.0.0")), len(desk.attempts("2.0.1"))) == (1, 0)
    assert desk.weight("1.0.0") == 10_000


async def test_case_26_a_new_digest_starts_cleanly_from_stable(desk: Desk) -> None:
    await _reverted(desk)
    await desk.promoted("3.0.0", method=QUICK)
    assert desk.weights("3.0.0") == [0, 1_000, 5_000, 10_000]
    assert desk.weights("2.0.0") == [0, 1_000, 0]
    await desk.serve("3.0.0")


async def test_case_27_a_retry_starts_at_zero_with_fresh_evidence(desk: Desk) -> None:
    await _reverted(desk)
    await desk.signal("2.0.0", "rejects", "0")
    await asyncio.sleep(1)
    await desk.annotate("retry", "fixed the feed")
    await desk.reaches("Holding", weight="10%")
    old, new = desk.attempts("2.0.0")
    assert old != new
    assert desk.weights("2.0.0") == [0, 1_000, 0, 1_000]
    attempt = desk.table.record.attempt
    assert attempt is not None
    await desk.judged("Pass")
    await desk.signal("2.0.0", "rejects", "0.9")
    await desk.until("and taken back anew", lambda: desk.weight("1.0.0") == 10_000)


async def test_case_28_nothing_is_left_to_abort_when_there_is_no_version_before(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    ranges = desk.table.ranges
    name = await desk.rollback("nervous")

    async def answered() -> bool:
        status = (await desk.api.get(desk.path("rollbacks", name))).get("status") or {}
        return bool(status.get("outcome") == "NothingToDo")

    await desk.until_async("it is answered", answered)
    assert desk.table.ranges == ranges
    assert desk.status["state"] == "Promoted"


async def test_case_28_a_rollback_after_promotion_goes_to_the_version_before(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.promoted("2.0.0", method=QUICK)
    name = await desk.rollback("fills-diverge")
    status = await desk.reaches("RolledBack", version="1.0.0")
    assert "on call: fills-diverge" in status["message"]
    answer: Object = {}

    async def answered() -> bool:
        answer.update((await desk.api.get(desk.path("rollbacks", name))).get("status") or {})
        return bool(answer.get("outcome") == "Succeeded")

    await desk.until_async("it is answered", answered)
    assert (answer["away"], answer["revision"]) == (desk.hashes["2.0.0"], desk.hashes["1.0.0"])
    await desk.serve("1.0.0")
    await desk.stays(1, "2.0.0 stays away", lambda: desk.weight("2.0.0") == 0)


async def test_case_29_a_third_version_is_tried_against_the_first(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=PARK)
    await desk.reaches("Holding", weight="10%")
    await desk.apply("3.0.0", method=PARK)
    await desk.reaches("Holding", weight="10%")
    assert [desk.weight(v) for v in ("1.0.0", "2.0.0", "3.0.0")] == [9_000, 0, 1_000]
    assert desk.table.record.stable == desk.hashes["1.0.0"]
    began = next(i for i, t in enumerate(desk.tables) if desk.weight("3.0.0", t))
    assert {desk.weight("2.0.0", t) for t in desk.tables[began:]} == {0}
    await desk.serve("1.0.0", "3.0.0")


async def test_case_30_the_first_version_applied_again_reverts_without_analysis(desk: Desk) -> None:
    await desk.promoted("1.0.0")
    await desk.apply("2.0.0", method=PARK)
    await desk.reaches("Holding", weight="10%")
    began = time.time() * 1000
    await desk.apply("1.0.0")
    await desk.reaches("Promoted", version="1.0.0")
    first = next(t for t in desk.tables if t.record.revert)
    assert first.cause.kind == "Reapplied"
    assert first.cause.at - began < 1_000
    assert desk.weight("1.0.0") == 10_000
    assert len(desk.attempts("1.0.0")) == 1
    await desk.serve("1.0.0")


async def test_case_33_reverted_pods_stay_for_the_delay_and_for_ever_with_none(desks: MakeDesk) -> None:
    brief, endless = await desks("brief"), await desks("endless")
    await asyncio.gather(_reverted(brief, onRevert={"keep": "3s"}), _reverted(endless, onRevert={"keep": "0s"}))
    revert = brief.table.record.revert
    assert revert is not None
    assert revert.served_at is not None

    def gone(desk: Desk) -> list[int]:
        return [r.at for r in desk.history.replicas if r.revision == desk.hashes["2.0.0"] and r.desired == 0]

    await brief.until("its pods go", lambda: bool(gone(brief)), 10)
    assert 3_000 <= gone(brief)[0] - revert.served_at < 4_500
    assert gone(endless) == []
    assert await endless.replicas("2.0.0") == 1
