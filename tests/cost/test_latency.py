from collections.abc import Callable
from functools import partial

import pytest
from prunecast.cost import latency
from prunecast.errors import UserError


def test_every_round_times_each_form_once_and_the_order_changes_with_the_seed_alone() -> None:
    def order(seed: int) -> list[tuple[str, ...]]:
        called: list[str] = []

        def call(name: str) -> None:
            called.append(name)
            sum(range(20_000))

        calls: dict[str, Callable[[], object]] = {name: partial(call, name) for name in "abc"}
        times = latency.latency(calls, 20, seed)
        assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 20)
        assert all((values > 0).all() for values in times.values())
        timed = called[len(calls) * latency.WARM_UP :]
        return [tuple(timed[start : start + 3]) for start in range(0, len(timed), 3)]

    rounds = order(0)
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1
    assert order(0) == rounds
    assert order(1) != rounds


def test_a_call_too_short_for_the_clock_is_refused_by_name_in_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"^a call of nothing takes \S+ ms, too short for a clock with steps of .*steps$"
    ):
        latency.latency({"something": lambda: sum(range(50_000)), "nothing": lambda: None}, 50)


def test_no_rounds_are_refused() -> None:
    with pytest.raises(UserError, match="^rounds is 0; it must be at least 1$"):
        latency.latency({"work": int}, 0)
