from collections.abc import Sequence

import numpy as np
import pytest

from models.decoding import Request, choose, generate
from models.grammar import Plan
from models.sampling import judge
from models.tokens import CellTokenizer, Labels
from tests.conftest import METRES


class RandomNext:
    """Random scores, sharpened at random: the worst network there is."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        self.random, self.vocabulary, self.rows = np.random.default_rng(seed), vocabulary, 0

    def _scores(self) -> np.ndarray:
        return self.random.normal(size=(self.rows, self.vocabulary)) * self.random.choice([0.1, 3.0, 30.0])

    def start(self, requests: Sequence[Request]) -> np.ndarray:
        self.rows = len(requests)
        return self._scores()

    def step(self, tokens: np.ndarray, bars: np.ndarray) -> np.ndarray:
        self.rows = len(tokens)
        return self._scores()

    def keep(self, rows: np.ndarray) -> None:
        self.rows = len(rows)


def random_plans(seed: int, count: int) -> list[Plan]:
    random = np.random.default_rng(seed)
    plans = []
    for _ in range(count):
        metres = tuple(METRES[random.integers(len(METRES))] for _ in range(random.integers(1, 5)))
        plans.append(Plan(metres, tuple(int(p) for p in random.choice([-1, 0, 40, 52], random.integers(1, 4)))))
    return plans


@pytest.mark.parametrize("seed", range(10))
def test_random_walks_are_all_valid_and_end(tokenizer: CellTokenizer, seed: int) -> None:
    plans = random_plans(seed, 100)
    requests = [Request(plan, Labels(), seed=i) for i, plan in enumerate(plans)]
    for request, ids in zip(requests, generate(RandomNext(seed, len(tokenizer)), tokenizer, requests), strict=True):
        sample = judge(tokenizer, request, ids)
        assert sample.score is not None, sample.reason
        if all(len(track.notes) for track in sample.score.tracks):
            assert np.array_equal(tokenizer.encode_score(sample.score)[0], ids), "the grammar lets a piece be written in one way only"


def test_nucleus_keeps_the_smallest_set_and_only_legal_tokens() -> None:
    scores = np.log(np.array([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, axis=0)
    legal = np.ones_like(scores, dtype=bool)
    draws = np.random.default_rng(0).random(4000)
    ones = np.ones(4000)
    picked = np.bincount(choose(scores, legal, draws, ones, ones * 0.6), minlength=4) / 4000
    assert picked[2:].sum() == 0
    assert picked[0] == pytest.approx(0.625, abs=0.03)
    legal[:, 0] = False
    assert set(choose(scores, legal, draws, ones, ones)) == {1, 2, 3}
    assert set(choose(scores, legal, draws, ones * 0.05, ones)) == {1}


def test_an_illegal_token_is_never_drawn_at_the_end_of_the_unit_interval() -> None:
    scores, legal = np.zeros((1, 5)), np.array([[True, True, False, False, False]])
    assert choose(scores, legal, np.array([np.nextafter(1, 0)]), np.ones(1), np.ones(1))[0] in (0, 1)
