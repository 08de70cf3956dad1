"""Who takes a request: the same beginning to the same place, until that place has its fill."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fleet.routing import Load, Placed, Router, RoutingRules, Wanted, wanted_of
from engine.messages import AdapterRef, Generate, Sampling

RULES = RoutingRules(block=4, memory=1.0, jitter=0.0)


def request(name: str = "r", prompt: tuple[int, ...] = tuple(range(40)), **fields: Any) -> Generate:
    return Generate(request_id=name, prompt=list(prompt), sampling=Sampling(max_tokens=8, seed=0), **fields)


def wanted(name: str = "r", prompt: tuple[int, ...] = tuple(range(40)), **fields: Any) -> Wanted:
    return wanted_of(request(name, prompt, **fields), RULES)


def fleet(count: int, rules: RoutingRules = RULES) -> Router:
    router = Router(rules)
    for index in range(count):
        router.join(f"n{index}")
    return router


def placed(router: Router, each: Wanted, *, ended: bool = False) -> str:
    name = router.choose(each)
    assert name is not None
    there = router.begin(name, each)
    if ended:
        there.ended()
    return name


def test_equal_beginnings_have_equal_blocks_and_others_do_not() -> None:
    one, other = wanted("a", (*range(16), 1, 2, 3, 4)), wanted("b", (*range(16), 9, 9, 9, 9))
    assert one.blocks[:4] == other.blocks[:4]
    assert one.blocks[4] != other.blocks[4]
    assert wanted("c", tuple(range(1, 17))).blocks[0] != one.blocks[0]


@pytest.mark.parametrize("fields", [{"tenant": "t"}, {"adapter": AdapterRef("f", "v")}])
def test_tenants_and_adapters_share_no_blocks(fields: dict[str, Any]) -> None:
    assert not set(wanted(**fields).blocks) & set(wanted().blocks)


def test_a_prompt_returns_to_the_replica_that_has_computed_it() -> None:
    router = fleet(5)
    first = placed(router, wanted("a"), ended=True)
    assert router.matched_tokens(first, wanted("b")) == 40
    assert placed(router, wanted("b", (*range(40), 7, 7, 7, 7))) == first


def test_routers_that_do_not_talk_send_an_unknown_prompt_to_the_same_place() -> None:
    assert {fleet(50).choose(wanted(f"r{index}")) for index in range(5)} == {fleet(50).choose(wanted())}


def test_prompts_are_spread() -> None:
    router = fleet(8)
    homes = Counter(router.choose(wanted(f"r{start}", tuple(range(start, start + 40)))) for start in range(400))
    assert len(homes) == 8
    assert max(homes.values()) < 150


def test_one_prompt_for_all_does_not_overload_its_home() -> None:
    """Nobody has more than (1 + slack) times the mean, and a little, however well the home knows the prompt."""
    router = fleet(10)
    counts = Counter(placed(router, wanted(f"r{index}")) for index in range(300))
    assert max(counts.values()) <= 1.25 * 30 + RULES.spare + 1


def test_a_prompt_that_another_router_sent_is_known_once_its_replica_has_told() -> None:
    router, first = fleet(5), "n3"
    assert router.choose(wanted("a")) != first
    router.learn(first, wanted("a").blocks, ["g"])
    assert router.choose(wanted("b")) == first
    assert router.matched_tokens(first, wanted("b")) == 40


def test_what_is_told_twice_does_not_turn_a_cache_over() -> None:
    router = fleet(1)
    router.report("n0", Load(cache_tokens=100))
    for _ in range(20):
        router.learn("n0", wanted("a").blocks, [])
    assert router.matched_tokens("n0", wanted("a")) == 40


def test_a_grammar_is_a_reason_to_return() -> None:
    router = fleet(6)
    first = placed(router, wanted("a", (1, 2), grammar="g"), ended=True)
    assert {placed(router, wanted(f"r{index}", (index, 5), grammar="g")) for index in range(2)} == {first}


def test_a_long_queue_outweighs_a_known_prompt() -> None:
    router = fleet(2)
    first = placed(router, wanted("a"))
    router.report(first, Load(queued_tokens=10_000, sequences=1))
    assert placed(router, wanted("b")) != first


def test_a_replica_without_free_pages_comes_last() -> None:
    router = fleet(3)
    first = placed(router, wanted("a"))
    router.report(first, Load(page_share=0.99))
    assert router.choose(wanted("b")) != first
    assert router.choose(wanted("b"), {"n0", "n1", "n2"} - {first}) == first


def test_a_slow_replica_must_be_much_better_placed() -> None:
    router = fleet(2)
    first = placed(router, wanted("a"), ended=True)
    router.judge(first, 50.0)
    router.report(first, Load(sequences=1))
    assert router.choose(wanted("b")) != first


def test_what_was_computed_long_ago_is_forgotten_with_the_cache() -> None:
    router = fleet(1)
    router.report("n0", Load(cache_tokens=100))
    placed(router, wanted("a"))
    assert router.matched_tokens("n0", wanted("a")) == 40
    for start in range(100, 104):
        placed(router, wanted(f"r{start}", tuple(range(start * 40, start * 40 + 40))))
    assert router.matched_tokens("n0", wanted("a")) == 0


def test_a_replica_that_leaves_takes_its_memory_along() -> None:
    router = fleet(3)
    first = placed(router, wanted("a"))
    router.leave(first)
    assert router.choose(wanted("b")) not in {first, None}
    router.join(first)
    assert router.matched_tokens(first, wanted("b")) == 0


def test_few_prompts_move_when_a_replica_joins() -> None:
    prompts = [wanted(f"r{start}", tuple(range(start * 50, start * 50 + 40))) for start in range(300)]
    before = [fleet(40).choose(each) for each in prompts]
    after = [fleet(41).choose(each) for each in prompts]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) <= {"n40"}
    assert len(moved) < 40


def test_nobody_is_left_to_choose() -> None:
    assert Router(RULES).choose(wanted()) is None
    assert fleet(2).choose(wanted(), {"n0", "n1"}) is None


def test_the_memory_of_blocks_is_bounded() -> None:
    router = fleet(2, RoutingRules(block=4, remembered=32))
    for start in range(50):
        placed(router, wanted(f"r{start}", tuple(range(start * 40, start * 40 + 40)), grammar=f"g{start}"))
    assert router.remembered <= (32, 2)


def test_a_queue_of_others_counts_the_more_the_longer_it_is_reported() -> None:
    """One report is old by the time it is used; a queue that stays is in the next ones too."""
    router, passed = Router(RoutingRules(block=4, memory=0.25, jitter=0.0)), 0
    router.join("n0")
    router.join("n1")
    first = placed(router, wanted("a"), ended=True)
    while router.choose(wanted("b")) == first:
        router.report(first, Load(queued_tokens=120, sequences=1))
        passed += 1
    assert passed > 1


EVENTS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "begin", "end", "report"]), st.integers(0, 5), st.integers(0, 3)),
    max_size=60,
)


@given(EVENTS)
def test_the_mean_is_that_of_a_plain_count(events: list[tuple[str, int, int]]) -> None:
    """The running sum behind the bound, against adding up anew after each event."""
    router, seats = Router(RULES), dict[str, list[int]]()  # others', own
    there: list[tuple[str, list[int], Placed]] = []
    for index, (event, place, value) in enumerate(events):
        name = f"n{place}"
        if event == "join" and name not in seats:
            router.join(name)
            seats[name] = [0, 0]
        elif event == "leave" and name in seats:
            router.leave(name)
            del seats[name]
        elif event == "begin" and name in seats:
            asked = wanted(f"r{index}", tuple(range(value, value + 12)))
            there.append((name, seats[name], router.begin(name, asked)))
            seats[name][1] += 1
        elif event == "end" and there:
            name, counts, one = there.pop(value % len(there))
            one.ended()
            one.ended()
            counts[1] -= 1  # of a life that may be over
        elif event == "report" and name in seats:
            router.report(name, Load(sequences=value))
            seats[name][0] = max(0, value - seats[name][1])
        assert router.sequences == pytest.approx(sum(map(sum, seats.values())))
        chosen = router.choose(wanted(f"c{index}"))
        assert (chosen in seats) if seats else chosen is None
