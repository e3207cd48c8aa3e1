"""Which items share rare interval n-grams with a query: what an encoder of fixed width forgets of a tune."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from models.find.embedding import BUCKETS
from music.analysis.words import buckets


def words_of(words: Sequence[np.ndarray]) -> np.ndarray:
    """Distinct buckets of the n-grams (int64) of some passages, uint16, rising."""
    together = np.concatenate([*words, np.zeros(0, dtype=np.int64)])
    return np.unique(buckets(together, BUCKETS)).astype(np.uint16)


class WordsIndex:
    """Cosines of TF-IDF vectors (Salton & Buckley 1988) between a query and every item; each n-gram counts
    once, by how few items have it."""

    def __init__(self, items: Sequence[np.ndarray]) -> None:
        """items: distinct buckets of each, uint16."""
        columns = np.concatenate([*items, np.zeros(0, dtype=np.uint16)]).astype(np.int64)
        rows = np.repeat(np.arange(len(items)), [len(item) for item in items])
        counts = np.bincount(columns, minlength=BUCKETS)
        self._idf = np.log((1 + len(items)) / (1 + counts)).astype(np.float32)
        values = self._idf[columns]
        norms = np.sqrt(np.bincount(rows, weights=values.astype(np.float64) ** 2, minlength=len(items)))
        scaled = values / np.maximum(norms[rows], 1e-9)
        self._matrix = csr_matrix((scaled, (rows, columns)), shape=(len(items), BUCKETS), dtype=np.float32)

    def likeness(self, words: np.ndarray) -> np.ndarray:
        """Cosine of each item with distinct buckets of a query, float32 (N,), 0 to 1."""
        query = np.zeros(BUCKETS, dtype=np.float32)
        query[words] = self._idf[words]
        return np.asarray(self._matrix @ (query / max(float(np.linalg.norm(query)), 1e-9)))
