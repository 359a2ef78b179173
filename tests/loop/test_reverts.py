"""What waits while many revert at once."""

from strategyrollout.ports import Key
from strategyrollout.reverts import FEW, LONGEST_HELD, LONGEST_POSTPONED, UNDER_WAY, Reverts

MANY = [Key("desk", f"rollout-{number}") for number in range(FEW + 4)]
LONE = Key("desk", "lone")


class Desk:
    """Reverts with a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.resumed: list[tuple[Key, bool]] = []
        self.reverts = Reverts(lambda key, urgent: self.resumed.append((key, urgent)), lambda: self.now)

    def freeze(self, *keys: Key, ready: bool = True) -> None:
        for key in keys:
            self.reverts.wrote(key, under_way=True, ready=ready)

    def grant(self, *keys: Key) -> None:
        for key in keys:
            self.reverts.wrote(key, under_way=False)

    def wait(self, key: Key, *, confirmed: bool) -> float:
        return self.reverts.hold(key, lambda: confirmed)


def test_a_lone_revert_waits_for_nothing() -> None:
    desk = Desk()
    desk.freeze(LONE)
    assert desk.wait(LONE, confirmed=False) == desk.wait(LONE, confirmed=True) == 0
    assert not desk.reverts.postpone(LONE)


def test_of_many_reverts_those_that_are_stopped_wait_until_few_others_are_not() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    early, late = MANY[: -FEW - 1], MANY[-FEW - 1 :]
    assert all(desk.wait(key, confirmed=True) == LONGEST_HELD for key in early)
    assert desk.resumed == []
    assert desk.wait(late[0], confirmed=True) == 0
    assert desk.resumed == [(key, True) for key in (*early, late[0])]
    assert desk.wait(early[0], confirmed=True) == 0


def test_nobody_is_held_for_longer_than_five_seconds_whatever_becomes_of_the_others() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    desk.now += LONGEST_HELD - 1
    assert desk.wait(MANY[0], confirmed=True) == 1
    desk.now += 1
    assert desk.wait(MANY[0], confirmed=True) == 0


def test_routers_that_never_confirm_do_not_hold_those_who_come_later_for_long() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    desk.now += LONGEST_HELD
    desk.freeze(LONE)
    assert desk.wait(LONE, confirmed=True) == 0


def test_a_revert_whose_target_has_no_pod_yet_is_not_held_because_its_children_must_be_made() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    desk.freeze(LONE, ready=False)
    assert desk.wait(LONE, confirmed=False) == 0


def test_a_revert_that_is_over_or_whose_rollout_is_gone_holds_nobody() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    desk.grant(*MANY[:2])
    desk.reverts.forget(MANY[2])
    desk.reverts.forget(MANY[3])
    assert all(desk.wait(key, confirmed=False) == 0 for key in MANY)


def test_reports_wait_while_many_revert_and_are_written_when_few_are_left() -> None:
    desk = Desk()
    desk.freeze(*MANY)
    assert desk.reverts.postpone(LONE)
    desk.grant(*MANY[:4])
    assert (LONE, False) in desk.resumed
    assert not desk.reverts.postpone(LONE)


def test_no_report_waits_for_longer_than_ten_seconds() -> None:
    desk = Desk()
    for _ in range(3):
        desk.freeze(*MANY)
        assert desk.reverts.postpone(LONE)
        desk.now += UNDER_WAY - 1
    desk.freeze(*MANY)
    assert desk.now - 100 > LONGEST_POSTPONED
    assert not desk.reverts.postpone(LONE)
