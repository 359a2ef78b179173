"""What is kept once must still be exactly what came."""

import json

from hypothesis import given
from hypothesis import strategies as st

from strategyrollout.cluster.sharing import Sharing

LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0]) | st.text(max_size=3)
BODIES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(BODIES, max_size=20))
def test_a_shared_body_is_the_same_to_the_type_of_every_leaf_and_the_order_of_keys(bodies: list[object]) -> None:
    sharing = Sharing()
    for body in bodies:
        assert json.dumps(sharing.share(body)) == json.dumps(body)


def test_equal_parts_of_different_objects_become_one() -> None:
    sharing = Sharing()
    first = sharing.share({"name": "a", "spec": {"ports": [{"port": 80}], "words": "x" * 100}})
    second = sharing.share({"name": "b", "spec": {"ports": [{"port": 80}], "words": "x" * 100}})
    assert first["spec"] is second["spec"]


def test_it_forgets_what_was_met_long_ago_and_goes_on() -> None:
    sharing = Sharing()
    for number in range(50_000):
        assert sharing.share({"number": number}) == {"number": number}
        assert sharing.share([number // 2, {}]) == [number // 2, {}]
    assert len(sharing._once) + len(sharing._often) < 30_000
