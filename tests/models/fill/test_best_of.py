"""Drafts have seeds of their own, and the best of them is taken."""

from typing import Any

import numpy as np
import pytest

from models.align.parts import Heard
from models.decoding.script import Plan
from models.fill.best_of import best, drafts
from models.fill.request import FillRequest, empty
from models.tokens.labels import Labels
from tests.models.align.test_rewards import rewards, tune

PLAN = Plan(((4, 4),) * 4, (40,))


def requests(count: int) -> list[FillRequest]:
    return [
        FillRequest(PLAN, empty(PLAN), Labels("irish", key="D major", bars=4), seed)
        for seed in range(7, 7 + count)
    ]


def test_drafts_differ_in_their_seeds_alone_and_the_first_has_the_one_asked_for() -> None:
    made = drafts(requests(3), 4)
    assert [draft.seed for draft in made[::4]] == [7, 8, 9] and len({draft.seed for draft in made}) == 12
    assert all(
        draft.plan == PLAN and 0 <= draft.seed < 2**31
        for draft in drafts([FillRequest(PLAN, empty(PLAN), Labels(), 2**31 - 10)], 8)
    )
    assert [draft.seed for draft in drafts(requests(3), 1)] == [7, 8, 9]


def test_the_draft_with_the_highest_reward_is_taken() -> None:
    judged = rewards()
    scores, asked = [tune(seed) for seed in range(100, 112)], drafts(requests(3), 4)
    won = np.array(
        [judged.total(Heard(score, request.labels)) for score, request in zip(scores, asked, strict=True)]
    ).reshape(3, 4)
    assert won.std() > 0
    assert best(asked, scores, 4, judged.of_answer) == [
        4 * k + int(best_of) for k, best_of in enumerate(won.argmax(axis=1))
    ]


def test_one_draft_needs_no_rewards_and_several_do() -> None:
    scores: list[Any] = [tune(1), tune(2)]
    assert best(requests(2), scores, 1, None) == [0, 1]
    with pytest.raises(ValueError, match="no rewards to choose drafts by"):
        best(requests(2), scores, 2, None)
