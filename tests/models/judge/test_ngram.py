from collections import Counter

import numpy as np
import pytest

from models.judge.ngram import NgramModel, best_order


def witten_bell(train: list[list[int]], history: tuple[int, ...], token: int, vocabulary: int) -> float:
    """The formula, written plainly."""
    lower = 1 / vocabulary if not history else witten_bell(train, history[1:], token, vocabulary)
    following: Counter[int] = Counter()
    for piece in train:
        padded = [vocabulary] * 9 + piece
        for i in range(9, len(padded)):
            if tuple(padded[i - len(history) : i]) == history:
                following[padded[i]] += 1
    if not history:
        lower = 1 / vocabulary
    if not following:
        return lower
    return (following[token] + len(following) * lower) / (sum(following.values()) + len(following))


@pytest.fixture
def pieces() -> list[np.ndarray]:
    random = np.random.default_rng(4)
    return [random.integers(0, 6, 30) for _ in range(5)]


def test_probabilities_are_those_of_the_formula(pieces: list[np.ndarray]) -> None:
    train = [piece.tolist() for piece in pieces[:4]]
    nats = NgramModel(pieces[:4], 6, 3).nats(pieces[4])
    padded = [6] * 9 + pieces[4].tolist()
    for i, value in enumerate(nats):
        history = tuple(padded[9 + i - 2 : 9 + i])
        assert np.exp(-value) == pytest.approx(witten_bell(train, history, padded[9 + i], 6), rel=1e-9)


def test_distribution_sums_to_one_and_agrees_with_nats(pieces: list[np.ndarray]) -> None:
    model = NgramModel(pieces[:4], 6, 4)
    nats = model.nats(pieces[4])
    for i in range(len(nats)):
        distribution = model.distribution(pieces[4][:i].tolist())
        assert distribution.sum() == pytest.approx(1)
        assert -np.log(distribution[pieces[4][i]]) == pytest.approx(nats[i])


def test_the_order_is_chosen_on_the_valid_pieces() -> None:
    cycle = [np.array([0, 0, 1] * 20), np.array([0, 0, 2] * 20)]
    model, tried = best_order(cycle, [np.array([0, 0, 1] * 5)], 3, [1, 3])
    assert model.order == 3
    assert tried[3] < tried[1]
