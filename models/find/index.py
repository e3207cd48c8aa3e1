"""Nearest vectors: exact in NumPy, and FAISS past a size, behind one small interface. Vectors are unit
length, so the inner product is the cosine."""

from typing import Protocol

import numpy as np

PROBES = 96  # lists that FAISS looks into; recall is measured by benchmarks/recommend.py


class VectorIndex(Protocol):
    """Rows nearest to queries."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries (Q, D) to cosines (Q, k), falling, and rows (Q, k); -1 where there are fewer than k."""

    def __len__(self) -> int: ...


class ExactIndex:
    """Every vector is looked at. Memory bandwidth sets the time: 15 GB/s is 1 ms for 30,000 vectors of 128
    floats."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.asarray(queries, dtype=np.float32) @ self._vectors.T  # (Q, N)
        k = min(k, len(self))
        rows = (
            np.argpartition(-found, k - 1, axis=1)[:, :k]
            if k < len(self)
            else np.tile(np.arange(k), (len(found), 1))
        )
        scores = np.take_along_axis(found, rows, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


class FaissIndex:
    """Inverted lists of 8-bit vectors (Jegou et al. 2011): some of about sqrt(N) lists are looked at, and
    what they give is ranked again exactly."""

    AGAIN = 4  # candidates ranked exactly, for each one asked

    def __init__(self, vectors: np.ndarray, probes: int = PROBES) -> None:
        import faiss

        self._vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        count, width = self._vectors.shape
        lists = max(int(2 * np.sqrt(count)), 1)
        self._coarse = faiss.IndexFlatIP(width)
        self._lists = faiss.IndexIVFScalarQuantizer(
            self._coarse, width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        random = np.random.default_rng(0)
        self._lists.train(self._vectors[random.permutation(count)[: 40 * lists]])
        self._lists.add(self._vectors)
        self._lists.nprobe = probes

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        _, rows = self._lists.search(queries, min(self.AGAIN * k, len(self)))
        scores = np.einsum("qd,qkd->qk", queries, self._vectors[rows])
        scores[rows < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def make_index(vectors: np.ndarray, faiss_past: int) -> VectorIndex:
    """Exact up to `faiss_past` vectors, FAISS past it. Raises ModuleNotFoundError with what to install."""
    if len(vectors) <= faiss_past:
        return ExactIndex(vectors)
    try:
        return FaissIndex(vectors)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{len(vectors)} vectors are past recommend.faiss_past ({faiss_past}): install "
            f"faiss-cpu (`pip install ostinato[search]`) or raise it"
        ) from error
