"""engine.adapters: a bounded number of slots, and requests with and without adapters in one loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.adapters import AdapterStore
from engine.errors import EngineOverloaded, InvalidRequest
from engine.messages import AdapterRef, ErrorCode, Generate, Sampling
from engine.model import BrokenModel, ModelRunner, RunnerConfig
from tests.engine.houses import Answer, House, drive, house
from tests.engine.model.conftest import family_folder  # noqa: F401 - a fixture
from tests.engine.model.families import VOCABULARY
from tests.engine.model.test_lora import adapter, dense

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Slots:
    """Notes what is where; a folder named `broken` cannot be loaded."""

    def __init__(self) -> None:
        self.held: dict[int, str] = {}

    def load_adapter(self, slot: int, folder: str, most_rank: int) -> None:
        assert most_rank == 8
        if folder == "broken":
            raise BrokenModel("half of it is missing")
        assert slot not in self.held
        self.held[slot] = folder

    def unload_adapter(self, slot: int) -> None:
        del self.held[slot]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_what_is_in_use_stays_and_the_rest_makes_room(steps: list[tuple[bool, int]]) -> None:
    """Against a plain model: opened ones are never evicted, the least recently used of the others is."""
    slots, most = Slots(), 3
    store = AdapterStore(slots, most, 8)
    order: list[int] = []
    users: dict[int, int] = {}
    for opens, number in steps:
        ref = AdapterRef(f"f{number}", f"v{number}")
        if not opens:
            if users.get(number):
                store.close(ref)
                users[number] -= 1
            continue
        if number not in order and len(order) == most:
            idle = next((n for n in order if not users.get(n)), None)
            if idle is None:
                with pytest.raises(EngineOverloaded, match="all 3 adapter slots are in use"):
                    store.open(ref)
                continue
            order.remove(idle)
        slot = store.open(ref)
        order = [n for n in order if n != number] + [number]
        users[number] = users.get(number, 0) + 1
        assert slots.held[slot] == f"f{number}"
        assert sorted(slots.held.values()) == sorted(f"f{n}" for n in order)


def test_an_adapter_that_cannot_be_loaded_costs_no_slot() -> None:
    store = AdapterStore(Slots(), 1, 8)
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="adapter: half of it is missing"):
            store.open(AdapterRef("broken", "b"))
    assert store.open(AdapterRef("good", "g")) == 0


def greedy(prompt: list[int], ref: AdapterRef | None, name: str) -> Generate:
    return Generate(
        request_id=name,
        prompt=prompt,
        sampling=Sampling(max_tokens=5, temperature=0.0, seed=0, ignore_eos=True),
        adapter=ref,
    )


def answers(made: House, wanted: list[Generate]) -> list[Answer]:
    """Of requests that arrive together, in their order."""
    told = drive(made, wanted)
    return [told[request.request_id] for request in wanted]


@pytest.fixture
def adapted(
    family_folder: Callable[[str], Path],  # noqa: F811
    tmp_path: Path,
) -> tuple[House, Path, list[AdapterRef]]:
    """A loop over a tiny Llama with room for one adapter beside another, and three adapters."""
    base = family_folder("llama")
    folders = [adapter(base, tmp_path / str(s), s, target_modules=["q_proj", "v_proj"]) for s in range(3)]
    runner = ModelRunner(RunnerConfig(path=str(base), pages=64, threads=1))
    return house(runner, adapters=AdapterStore(runner, 2, 8)), base, [AdapterRef(str(f), f.name) for f in folders]


def test_each_request_gets_its_adapter_in_one_batch(adapted: tuple[House, Path, list[AdapterRef]]) -> None:
    """The same prompt with two adapters and without, at the same time: peft's greedy tokens, no page shared between."""
    made, base, refs = adapted
    prompt = [5 + i % (VOCABULARY - 5) for i in range(40)]
    wanted = [greedy(prompt, ref, str(i)) for i, ref in enumerate([refs[0], None, refs[1], refs[0]])]
    told = answers(made, wanted)
    for request, answer in zip(wanted, told, strict=True):
        text = list(prompt)
        for token in answer.ids:
            folder = None if request.adapter is None else Path(request.adapter.folder)
            logits = dense(base, folder, text)[-1]
            assert logits[token] >= logits.max() - 1e-4
            text.append(token)
    assert len({tuple(answer.ids) for answer in told}) == 3


def test_a_prompt_is_measured_with_its_adapter(adapted: tuple[House, Path, list[AdapterRef]]) -> None:
    """What `/v1/choices/score` asks for: peft's log-probs of every prompt token, with and without."""
    made, base, refs = adapted
    prompt = [5 + 3 * i % (VOCABULARY - 5) for i in range(20)]
    sampling = Sampling(max_tokens=1, temperature=0.0, seed=0, prompt_logprobs=0)
    wanted = [
        Generate(request_id=str(i), prompt=prompt, sampling=sampling, adapter=ref)
        for i, ref in enumerate([*refs, None])
    ]
    for request in wanted:
        (answer,) = answers(made, [request])
        folder = None if request.adapter is None else Path(request.adapter.folder)
        expected = dense(base, folder, prompt).log_softmax(-1)
        told = [token for output in answer.outputs for token in output.prompt or ()]
        assert [token.token_id for token in told] == prompt
        for place, token in enumerate(told[1:]):
            assert token.logprob == pytest.approx(float(expected[place, token.token_id]), abs=1e-4)


def test_slots_are_given_back_when_requests_end(adapted: tuple[House, Path, list[AdapterRef]]) -> None:
    """Two slots serve three adapters one after the other."""
    made, _, refs = adapted
    for index, ref in enumerate([*refs, *refs]):
        (answer,) = answers(made, [greedy([7, 8, 9], ref, f"r{index}")])
        assert len(answer.ids) == 5


def test_a_new_version_is_not_taken_for_the_old(adapted: tuple[House, Path, list[AdapterRef]], tmp_path: Path) -> None:
    """Other content in the same folder: pages of the old one are not used, weights neither."""
    made, _, refs = adapted
    place = tmp_path / "place"
    prompt = [5 + i % 90 for i in range(40)]
    texts = []
    for version in (0, 1):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(refs[version].folder, place)
        texts.append(answers(made, [greedy(prompt, AdapterRef(str(place), f"v{version}"), f"n{version}")])[0].ids)
    want = [answers(made, [greedy(prompt, refs[v], f"w{v}")])[0].ids for v in (0, 1)]
    assert texts == want


def test_slots_change_hands_under_load(adapted: tuple[House, Path, list[AdapterRef]]) -> None:
    """Sixty requests for three adapters and none, six at a time, two slots: each gets its own text, or is told so."""
    made, _, refs = adapted
    prompts = [[5 + (3 * i + n) % 90 for i in range(11)] for n in range(4)]
    alone = {
        (n, k): answers(made, [greedy(prompts[n], ref, f"a{n}{k}")])[0].ids
        for n in range(4)
        for k, ref in enumerate([*refs, None])
    }
    told: dict[bool, int] = {True: 0, False: 0}
    for round_ in range(10):
        kinds = [(7 * round_ + 5 * i) % 4 for i in range(6)]
        wanted = [greedy(prompts[i % 4], [*refs, None][k], f"{round_}-{i}") for i, k in enumerate(kinds)]
        for i, answer in enumerate(answers(made, wanted)):
            told[answer.failure is None] += 1
            if answer.failure is None:
                assert answer.ids == alone[i % 4, kinds[i]]
            else:
                assert answer.failure.code == ErrorCode.OVERLOADED
    assert min(told.values()) > 0


def overflowing(source: Path, target: Path) -> Path:
    """A copy of an adapter whose numbers are finite, and whose products are not."""
    shutil.copytree(source, target)
    tensors = load_file(target / "adapter_model.safetensors")
    save_file({name: tensor * 1e30 for name, tensor in tensors.items()}, target / "adapter_model.safetensors")
    return target


def test_an_adapter_that_overflows_ends_its_own_requests(
    adapted: tuple[House, Path, list[AdapterRef]], tmp_path: Path
) -> None:
    """Those beside it, and those that get its pages and its slot after it, are what they are without it."""
    made, _, refs = adapted
    bad = AdapterRef(str(overflowing(Path(refs[0].folder), tmp_path / "bad")), "bad")
    prompt = [5 + i % 90 for i in range(30)]
    want = [answers(made, [greedy(prompt, ref, f"w{i}")])[0].ids for i, ref in enumerate([None, refs[1]])]
    beside = answers(made, [greedy(prompt, ref, f"b{i}") for i, ref in enumerate([bad, None, refs[1], bad])])
    codes = [answer.failure and answer.failure.code for answer in beside]
    assert codes == [ErrorCode.NUMERIC, None, None, ErrorCode.NUMERIC]
    assert [beside[1].ids, beside[2].ids] == want
    for turn in range(8):  # whatever pages they get
        after = answers(made, [greedy(prompt[turn:], ref, f"a{turn}{i}") for i, ref in enumerate([None, refs[2], bad])])
        assert [answer.failure is None for answer in after] == [True, True, False]
    assert answers(made, [greedy(prompt, None, "last")])[0].ids == want[0]


def test_an_engine_without_slots_says_so() -> None:
    made = house()
    (answer,) = answers(made, [greedy([1], AdapterRef("f", "v"), "x")])
    assert answer.failure is not None
    assert "serves no adapters" in answer.failure.message
