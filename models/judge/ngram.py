"""The baseline every figure stands beside: an interpolated n-gram over the same tokens, Witten-Bell smoothed.

P(w | h) = (c(hw) + t(h) P(w | h')) / (c(h) + t(h)), with h' the history without its oldest token, t(h) the
number of different tokens seen after h, and a uniform distribution below the unigram (Witten & Bell 1991;
Chen & Goodman 1999, section 2.4).
"""

from collections.abc import Sequence

import numpy as np

from models.tokens.tokenizer import CellTokenizer


class NgramModel:
    """Counts of every order up to `order`, as sorted arrays of hashed contexts; training and scoring are
    vectorised."""

    def __init__(self, pieces: Sequence[np.ndarray], vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        self._levels: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        stream = np.concatenate([self._padded(piece) for piece in pieces])
        for n in range(1, order + 1):
            history = self._history_keys(stream, n - 1)[order:]
            token = stream[order:]
            real = token != vocabulary  # the padding between pieces is never predicted
            self._levels.append(self._count(history[real], token[real]))

    def _padded(self, piece: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full(self.order, self.vocabulary, dtype=np.int64), piece.astype(np.int64)])

    def _history_keys(self, stream: np.ndarray, length: int) -> np.ndarray:
        """A 64-bit hash of the `length` tokens before each position (wrap-around polynomial)."""
        keys = np.zeros(len(stream), dtype=np.uint64)
        for back in range(1, length + 1):
            shifted = np.concatenate([np.full(back, self.vocabulary, dtype=np.int64), stream[:-back]]).astype(
                np.uint64
            )
            keys = keys * np.uint64(0x9E3779B97F4A7C15) + shifted + np.uint64(1)
            keys ^= keys >> np.uint64(29)
        return keys

    @staticmethod
    def _count(
        history: np.ndarray, token: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        order = np.lexsort((token, history))
        history, token = history[order], token[order]
        new = np.concatenate([[True], (history[1:] != history[:-1]) | (token[1:] != token[:-1])])
        first = np.flatnonzero(new)
        pair_history, pair_token = history[first], token[first]
        pair_count = np.diff(np.append(first, len(history)))
        context_first = np.flatnonzero(np.concatenate([[True], pair_history[1:] != pair_history[:-1]]))
        contexts = pair_history[context_first]
        bounds = np.append(context_first, len(pair_history))
        totals = np.add.reduceat(pair_count, context_first)
        return contexts, bounds, totals, np.diff(bounds), pair_token, pair_count

    def nats(self, piece: np.ndarray) -> np.ndarray:
        """Negative log probability of each token of a piece, float64 (n,)."""
        stream = self._padded(piece)
        token = stream[self.order :]
        probability = np.full(len(token), 1.0 / self.vocabulary)
        for n, (contexts, bounds, totals, types, pair_token, pair_count) in enumerate(self._levels, start=1):
            history = self._history_keys(stream, n - 1)[self.order :]
            at = np.minimum(np.searchsorted(contexts, history), len(contexts) - 1)
            known = contexts[at] == history
            count = np.zeros(len(token))
            low, high = bounds[at], bounds[at + 1]
            stop = high
            while np.any(
                low < stop
            ):  # binary search inside each context's sorted tokens, all positions at once
                middle = (low + stop) // 2
                less = (pair_token[np.minimum(middle, len(pair_token) - 1)] < token) & (low < stop)
                low, stop = np.where(less, middle + 1, low), np.where(less | (low >= stop), stop, middle)
            hit = (low < high) & (pair_token[np.minimum(low, len(pair_token) - 1)] == token)
            count[hit] = pair_count[low[hit]]
            smoothed = (count + types[at] * probability) / (totals[at] + types[at])
            probability = np.where(known, smoothed, probability)
        return -np.log(probability)

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """P(next token | history), float64 (vocabulary,); for sampling."""
        padded = np.concatenate(
            [np.full(self.order, self.vocabulary, dtype=np.int64), np.asarray(history, dtype=np.int64), [0]]
        )
        probability = np.full(self.vocabulary, 1.0 / self.vocabulary)
        for n, (contexts, bounds, totals, types, pair_token, pair_count) in enumerate(self._levels, start=1):
            key = self._history_keys(padded[-n:], n - 1)[-1]
            at = int(np.searchsorted(contexts, key))
            if at == len(contexts) or contexts[at] != key:
                break
            seen = np.zeros(self.vocabulary)
            seen[pair_token[bounds[at] : bounds[at + 1]]] = pair_count[bounds[at] : bounds[at + 1]]
            probability = (seen + types[at] * probability) / (totals[at] + types[at])
        return probability


def best_order(
    train: Sequence[np.ndarray], valid: Sequence[np.ndarray], vocabulary: int, orders: Sequence[int]
) -> tuple[NgramModel, dict[int, float]]:
    """The model whose order gives the fewest nats on `valid`, and total nats for each order tried."""
    tried: dict[int, float] = {}
    best: NgramModel | None = None
    for order in orders:
        model = NgramModel(train, vocabulary, order)
        tried[order] = float(sum(model.nats(piece).sum() for piece in valid))
        if best is None or tried[order] < tried[best.order]:
            best = model
    assert best is not None
    return best, tried


class NgramDecoder:
    """Next-token scores of the n-gram baseline, so that it writes under the same grammar and the same
    requests. It reads no controls."""

    def __init__(self, model: NgramModel, tokenizer: CellTokenizer, slots: int, context: int) -> None:
        self._model, self._tokenizer, self.slots, self.context = model, tokenizer, slots, context
        self._histories: dict[int, list[int]] = {}

    def prefill(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self._histories[slot] = music_of(self._tokenizer, placed[:, 0].tolist())
        return self._scores(slot)

    def extend(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self._histories[slot] += [
            token for token in placed[:, 0].tolist() if not self._tokenizer.is_control(token)
        ]
        return self._scores(slot)

    def step(self, slots: np.ndarray, placed: np.ndarray) -> np.ndarray:
        return np.stack(
            [self.extend(slot, row[None]) for slot, row in zip(slots.tolist(), placed, strict=True)]
        )

    def _scores(self, slot: int) -> np.ndarray:
        return np.log(self._model.distribution(self._histories[slot][-self._model.order :]))


def music_of(tokenizer: CellTokenizer, ids: Sequence[int]) -> list[int]:
    """The bars that lead up to what is written: without controls and without what lies ahead."""
    fill = tokenizer.id_of("Part", "Fill")
    start = (
        len(ids) - list(ids)[::-1].index(fill)
        if fill in ids
        else next((i for i, token in enumerate(ids) if tokenizer.is_bar(token)), len(ids))
    )
    return [token for token in ids[start:] if not tokenizer.is_control(token)]
