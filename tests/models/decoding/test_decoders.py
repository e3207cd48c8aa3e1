"""Back ends of decoding: the scores of the network, whatever the company."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.decoding.batching import Batcher, Busy
from models.decoding.loop import Decoder
from models.decoding.onnx_decoder import OnnxDecoder
from models.decoding.onnx_graph import build_graph
from models.decoding.script import Plan
from models.decoding.torch_decoder import TorchDecoder
from models.fill.fill import fill
from models.fill.region import Region
from models.fill.request import FillRequest, empty
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.labels import Labels, TrackAsk
from models.tokens.tokenizer import CellTokenizer
from music.score.form import same_notes
from tests.places import placed_tensor, places_at_random


@pytest.fixture(scope="module")
def network(tokenizer: CellTokenizer) -> Network:
    torch.manual_seed(3)
    network = Network(sized("tiny", vocabulary=len(tokenizer), context=96))
    for parameter in network.parameters():
        parameter.data *= 3  # far from flat, so that errors show
    return network.eval()


@pytest.fixture(scope="module")
def decoders(network: Network) -> dict[str, Callable[[int], Decoder]]:
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graphs = {
        bits: build_graph(weights, network.config, eight_bit=bits == "eight_bit")
        for bits in ("fp32", "eight_bit")
    }
    return {
        "torch": lambda slots: TorchDecoder(network, slots),
        **{
            bits: (lambda slots, graph=graph: OnnxDecoder(graph, slots, threads=2))
            for bits, graph in graphs.items()
        },
    }


@pytest.mark.parametrize(("name", "tolerance"), [("torch", 1e-4), ("fp32", 1e-3), ("eight_bit", 0.5)])
def test_scores_are_those_of_one_pass_of_the_network(
    network: Network, decoders: dict[str, Callable[[int], Decoder]], name: str, tolerance: float
) -> None:
    decoder = decoders[name](5)
    random = np.random.default_rng(0)
    V = network.config.vocabulary
    rows = [places_at_random(random.integers(0, V, 60), V, seed) for seed in range(5)]
    starts = [7, 31, 12, 20, 3]
    for slot, (ids, start) in enumerate(zip(rows, starts, strict=True)):
        decoder.prefill(slot, ids[: start - 2])
        decoder.extend(slot, ids[start - 2 : start])
    for step in range(20):
        slots = np.array([0, 2, 4] if step % 3 == 0 else [4, 1, 0, 3, 2])
        tokens = np.array([rows[slot][starts[slot]] for slot in slots])
        found = decoder.step(slots, tokens)
        for slot, scores in zip(slots.tolist(), found, strict=True):
            starts[slot] += 1
            with torch.inference_mode():
                expected = network(torch.from_numpy(rows[slot][: starts[slot]])[None])[0, -1].numpy()
            assert np.abs(scores - expected).max() < tolerance * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("name", ["fp32", "eight_bit"])
def test_scores_are_the_same_to_the_bit_in_any_company(
    decoders: dict[str, Callable[[int], Decoder]], name: str, tokenizer: CellTokenizer
) -> None:
    random = np.random.default_rng(1)
    V = len(tokenizer)
    rows = [places_at_random(random.integers(0, V, 90), V, seed) for seed in range(12)]
    alone = []
    for ids in rows:
        decoder = decoders[name](1)
        decoder.prefill(0, ids[:10])
        alone.append([decoder.step(np.array([0]), ids[i : i + 1])[0] for i in range(10, 90)])
    together, at = decoders[name](12), [10] * 12
    for slot, ids in enumerate(rows):
        together.prefill(slot, ids[:10])
    while min(at) < 90:
        able = [slot for slot in range(12) if at[slot] < 90]
        slots = random.permutation(able)[: random.integers(1, len(able) + 1)]
        found = together.step(slots, np.array([rows[slot][at[slot]] for slot in slots]))
        for slot, scores in zip(slots.tolist(), found, strict=True):
            assert np.array_equal(scores, alone[slot][at[slot] - 10])
            at[slot] += 1


def requests(count: int) -> list[FillRequest]:
    """Of different lengths, tracks and controls; some with guidance."""
    plans = [Plan(((4, 4),) * (1 + i % 5), (40,) * (1 + i % 3)) for i in range(count)]
    return [
        FillRequest(
            plan,
            empty(plan),
            Labels(style="irish", bars=len(plan.metres), tracks=tuple(TrackAsk(p) for p in plan.programs)),
            seed=i,
            top_p=0.95,
            guidance=1.5 if i % 4 == 3 else 1.0,
        )
        for i, plan in enumerate(plans)
    ]


@pytest.mark.parametrize("name", ["fp32", "eight_bit"])
def test_a_request_gets_the_same_notes_alone_and_in_company(
    decoders: dict[str, Callable[[int], Decoder]], name: str, tokenizer: CellTokenizer
) -> None:
    asked = requests(12)
    together = fill(decoders[name](7), tokenizer, asked)
    for request, filled in zip(asked, together, strict=True):
        assert same_notes(fill(decoders[name](2), tokenizer, [request])[0].score, filled.score)


@pytest.mark.parametrize("lanes", [1, 2])
def test_requests_join_a_running_batch_and_get_their_own_answers(
    decoders: dict[str, Callable[[int], Decoder]], lanes: int, tokenizer: CellTokenizer
) -> None:
    asked = requests(10)
    batcher = Batcher([decoders["fp32"](3) for _ in range(lanes)], tokenizer)
    answers = [
        ticket.result() for ticket in [batcher.submit(Region(tokenizer, request)) for request in asked]
    ]
    for request, filled in zip(asked, answers, strict=True):
        assert same_notes(fill(decoders["fp32"](2), tokenizer, [request])[0].score, filled.score)
    batcher.close()


def test_a_cancelled_request_leaves_and_the_next_is_served(
    decoders: dict[str, Callable[[int], Decoder]], tokenizer: CellTokenizer
) -> None:
    batcher = Batcher([decoders["fp32"](1)], tokenizer)
    plan = Plan(((4, 4),) * 300, (40, 40, 40))
    endless = batcher.submit(Region(tokenizer, FillRequest(plan, empty(plan), Labels(), 1)))
    endless.cancel()
    with pytest.raises(InterruptedError):
        endless.result()
    assert batcher.submit(Region(tokenizer, requests(1)[0])).result().score.note_num() > 0
    batcher.close()


def test_requests_that_give_up_while_they_wait_leave_the_others_served(
    decoders: dict[str, Callable[[int], Decoder]], tokenizer: CellTokenizer
) -> None:
    batcher = Batcher([decoders["fp32"](1)], tokenizer)
    plan = Plan(((4, 4),) * 300, (40, 40, 40))
    tickets = [
        batcher.submit(Region(tokenizer, FillRequest(plan, empty(plan), Labels(), seed))) for seed in range(4)
    ]
    late = batcher.submit(Region(tokenizer, FillRequest(plan, empty(plan), Labels(), 4)), 0.0)
    with pytest.raises(TimeoutError):  # behind others that wait
        late.result()
    for ticket in tickets[::-1]:
        ticket.cancel()
        with pytest.raises(InterruptedError):
            ticket.result()
    assert batcher.submit(Region(tokenizer, requests(1)[0])).result().score.note_num() > 0
    assert batcher.alive
    batcher.close()
    assert not batcher.alive


def test_a_large_request_leaves_room_for_a_small_one(
    decoders: dict[str, Callable[[int], Decoder]], tokenizer: CellTokenizer
) -> None:
    batcher = Batcher([decoders["fp32"](8)], tokenizer)
    plan = Plan(((4, 4),) * 300, (40, 40, 40))
    large = [
        batcher.submit(Region(tokenizer, FillRequest(plan, empty(plan), Labels(), seed)), group="large")
        for seed in range(20)
    ]
    small = batcher.submit(Region(tokenizer, requests(1)[0]), group="small")
    assert small.future.result(timeout=60).score.note_num() > 0
    assert not any(ticket.future.done() for ticket in large)
    for ticket in large:
        ticket.cancel()
    batcher.close()


def test_a_full_queue_and_a_passed_deadline_are_told(
    decoders: dict[str, Callable[[int], Decoder]], tokenizer: CellTokenizer
) -> None:
    batcher = Batcher([decoders["fp32"](1)], tokenizer, most_waiting=1)
    plan = Plan(((4, 4),) * 300, (40, 40, 40))
    long = FillRequest(plan, empty(plan), Labels(), 1)
    tickets = [batcher.submit(Region(tokenizer, long))]
    while batcher.load[0] == 0:
        time.sleep(0.01)
    tickets.append(batcher.submit(Region(tokenizer, long)))
    with pytest.raises(Busy, match="try again"):
        batcher.submit(Region(tokenizer, long))
    for ticket in tickets:
        ticket.cancel()
    for ticket in tickets:
        with pytest.raises(InterruptedError):
            ticket.result()
    with pytest.raises(TimeoutError):
        batcher.submit(Region(tokenizer, long), deadline_s=0.05).result()
    batcher.close()


def test_weights_load_into_the_hugging_face_class_with_equal_logits(network: Network) -> None:
    transformers = pytest.importorskip("transformers")
    from models.network.huggingface import PLACES, llama_config

    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**llama_config(network.config, eos_id=1, pad_id=0))
    ).eval()
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith(PLACES)}
    missing = theirs.load_state_dict(weights, strict=False)
    assert missing.missing_keys in ([], ["lm_head.weight"])
    assert missing.unexpected_keys == []
    theirs.tie_weights()
    V = network.config.vocabulary
    placed = placed_tensor(torch.randint(0, V, (2, 90)), V)
    with torch.inference_mode():
        logits = theirs(inputs_embeds=network.embed(placed)).logits
        torch.testing.assert_close(logits, network(placed), atol=2e-3, rtol=1e-4)
