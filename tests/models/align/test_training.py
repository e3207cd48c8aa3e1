"""Alignment: advantages, credit and pairs as defined; both methods make what was chosen more likely; takes
are laid out as the network reads them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.align.rollouts import Take, Writer, padded, several_takes, take_of, unasked
from models.align.rounds import Pair, leave_one_out, pairs_of, wrong_tokens
from models.align.training import log_probabilities
from models.fill.request import FillRequest, empty, plan_of
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.score.form import same_notes
from tests.models.align.test_rewards import chorale, rewards, tune

CONTEXT = 256


def takes_of(tokenizer: CellTokenizer, count: int) -> list[Take]:
    return [
        take_of(
            tokenizer,
            FillRequest(plan_of(score), empty(plan_of(score)), Labels("irish", key="G major", bars=4), 0),
            score,
            CONTEXT,
        )
        for score in (tune(seed, 4) for seed in range(count))
    ]


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_advantages_of_a_prompt_sum_to_nothing(rows: list[list[float]]) -> None:
    advantage = leave_one_out(np.array(rows))
    assert np.allclose(advantage.sum(axis=1), 0, atol=1e-6 * max(1.0, float(np.abs(advantage).max())))


def test_the_best_take_has_the_greatest_advantage_over_the_mean_of_the_others() -> None:
    advantage = leave_one_out(np.array([[0.2, 0.4, 0.9]]))
    assert advantage.argmax() == 2
    assert np.allclose(advantage[0] * np.array([[0.2, 0.4, 0.9]]).std(), [0.2 - 0.65, 0.4 - 0.55, 0.9 - 0.3])


def test_pairs_are_the_best_against_the_worst_where_they_differ() -> None:
    takes = list(range(8))
    pairs = pairs_of(takes, np.array([[0.1, 0.9, 0.5, 0.4], [0.5, 0.5, 0.5, 0.51]]), 0.05)  # type: ignore[arg-type]
    assert [(p.chosen, p.rejected) for p in pairs] == [(1, 0), (2, 3)]


def test_wrong_notes_are_those_that_would_make_parallels_where_the_network_writes(
    tokenizer: CellTokenizer,
) -> None:
    score = chorale([43, 45, 43, 48])  # soprano G-A over bass G-A: octaves at the second note
    judged = rewards({"fifths": 1.0, "octaves": 1.0})
    take = take_of(
        tokenizer,
        FillRequest(plan_of(score), empty(plan_of(score)), Labels("chorale", bars=1), 0),
        score,
        CONTEXT,
    )
    places, costs = wrong_tokens([take], judged, tokenizer.first_id["Pitch"], len(tokenizer))
    written = [tokenizer[int(take.ids[at + 1, 0])] for _, at in places.tolist()]
    costly = {
        name: {tokenizer[int(i)] for i in cost.nonzero()} for name, cost in zip(written, costs, strict=True)
    }
    assert "Pitch_45" in costly["Pitch_45"] and "Pitch_57" in costly["Pitch_45"], (
        "the A that was written, and the A an octave higher"
    )
    assert float(costs.max()) >= 1 and all("Pitch" in token for tokens in costly.values() for token in tokens)
    melody_given = empty(plan_of(score))
    melody_given[:, 3] = False
    other = take_of(
        tokenizer,
        FillRequest(plan_of(score), melody_given, Labels("chorale", bars=1), 0, score),
        score,
        CONTEXT,
    )
    places, _ = wrong_tokens([other], judged, tokenizer.first_id["Pitch"], len(tokenizer))
    assert other.request.given == (3,) and "Pitch_45" not in [
        tokenizer[int(other.ids[at + 1, 0])] for _, at in places.tolist()
    ], "what was given is nobody's fault"


def test_a_real_opening_says_what_would_be_wrong_at_its_own_notes(tokenizer: CellTokenizer) -> None:
    score = chorale([48, 45, 43, 48])
    real = take_of(
        tokenizer,
        FillRequest(plan_of(score), empty(plan_of(score)), Labels("chorale", bars=1), 0),
        score,
        CONTEXT,
    )
    places, costs = wrong_tokens(
        [real], rewards({"fifths": 1.0, "octaves": 1.0}), tokenizer.first_id["Pitch"], len(tokenizer)
    )
    written = real.ids[places[:, 1].numpy() + 1, 0]
    assert len(places) and not any(cost[int(token)] for cost, token in zip(costs, written, strict=True)), (
        "this bass makes no parallels"
    )


def test_what_the_network_writes_is_what_the_training_step_reads(tokenizer: CellTokenizer) -> None:
    torch.manual_seed(0)
    config = sized("tiny", vocabulary=len(tokenizer), context=CONTEXT)
    network = Network(config).eval()
    score = chorale([48, 45, 43, 48])
    missing = empty(plan_of(score))
    missing[:, 0] = False
    requests = several_takes(
        [FillRequest(plan_of(score), missing, Labels("chorale", bars=1), 1, score)], 4, guidance=2.0
    )
    assert [request.guidance for request in requests] == [1.0, 2.0, 1.0, 2.0] and len(
        {request.seed for request in requests}
    ) == 4
    takes = Writer(tokenizer, config).write(network.state_dict(), requests)
    for take in takes:
        again = take_of(tokenizer, take.request, take.score, CONTEXT)
        assert (again.ids == take.ids).all()
        assert same_notes(take.score, again.score)
        assert not (take.scored & (take.notes[:, 0] == 0)).any(), "the given melody is read, not learned"


def test_takes_are_moved_to_the_same_tokens_after_a_prompt_that_asks_for_nothing(
    tokenizer: CellTokenizer,
) -> None:
    takes = [
        *takes_of(tokenizer, 2),
        take_of(
            tokenizer,
            FillRequest(plan_of(tune(1, 3)), empty(plan_of(tune(1, 3))), Labels(bars=3), 0),
            tune(1, 3),
            CONTEXT,
        ),
    ]
    ids = padded(takes)[0]
    free, moved = unasked(takes, ids.shape[1])
    for row, take in enumerate(takes):
        own = np.flatnonzero(take.scored)
        assert (free[row, moved[row, own], 0] == ids[row, own, 0]).all()
        assert take.ahead <= 0


@pytest.mark.parametrize("method", ["rloo", "dpo"])
def test_a_step_makes_the_chosen_take_more_likely_than_the_rejected(
    tokenizer: CellTokenizer, method: str
) -> None:
    from models.align.training import Aligning, Hold

    torch.manual_seed(0)
    network = Network(sized("tiny", vocabulary=len(tokenizer), context=CONTEXT))
    takes = takes_of(tokenizer, 2)
    pair = Pair(*takes)
    ids, scored = padded([pair.chosen, pair.rejected])
    with torch.no_grad():
        reference = log_probabilities(network, ids, scored)
    module = Aligning.__new__(Aligning)
    torch.nn.Module.__init__(module)
    module._hold, module.round_reward = Hold(0.1, 0.0), 0.0
    module.log = lambda *args, **more: None  # type: ignore[method-assign, assignment]
    batch = {"ids": ids, "scored": scored, "weight": torch.tensor([1.0, -1.0])}
    before = reference.sum(dim=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for _ in range(3):
        mine = log_probabilities(network, ids, scored)
        loss = (
            module._rloo(mine, reference, batch)
            if method == "rloo"
            else module._dpo(mine, reference, torch.ones(1))
        )
        network.zero_grad()
        loss.backward()
        optimizer.step()
    after = log_probabilities(network, ids, scored).sum(dim=1)
    assert float((after - before)[0] - (after - before)[1]) > 0.1
