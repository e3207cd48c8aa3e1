"""Reading whole sequences on ONNX Runtime, in fp32: likelihoods and hidden states for the service, which has
no torch."""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from scipy.sparse import csr_matrix

from models.decoding.onnx_decoder import session_of
from models.decoding.onnx_graph import reading_graph, tables_of
from models.network.config import NetworkConfig


class OnnxReader:
    """A `Reads` (models/network/reading.py), for any number of threads at once. Rows are read one by one, so
    that no figure depends on what is read beside it."""

    def __init__(self, weights: Mapping[str, np.ndarray], config: NetworkConfig, threads: int = 1) -> None:
        self.config = config
        self._session: ort.InferenceSession = session_of(reading_graph(weights, config), threads)
        self._tables, self._starts = tables_of(weights)

    def nats(self, placed: np.ndarray) -> np.ndarray:
        B, T = placed.shape[:2]
        found = np.zeros((B, T - 1), dtype=np.float32)
        for row, each in enumerate(placed):
            (logits,) = self._read(each[:-1], ["logits"])
            top = logits.max(axis=1, keepdims=True)
            totals = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
            found[row] = totals - logits[np.arange(T - 1), each[1:, 0]]
        return found

    def mean_states(self, placed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        rows = [
            np.concatenate([state.mean(axis=0) for state in self._read(each[:length], ["half", "whole"])])
            for each, length in zip(placed, lengths.tolist(), strict=True)
        ]
        return np.stack(rows)

    def _read(self, placed: np.ndarray, wanted: list[str]) -> list[np.ndarray]:
        """Outputs of one sequence (T, WIDTH), each (T, ..)."""
        T, each = placed.shape
        # rows of tables, summed: a product with a matrix that says which
        rows, ends = (placed + self._starts).ravel(), np.arange(0, T * each + 1, each)
        which = csr_matrix((np.ones(T * each, np.float32), rows, ends), shape=(T, len(self._tables)))
        told = {
            "embedded": (which @ self._tables)[None],
            "seqlens": np.array([len(placed) - 1], dtype=np.int32),
            "total": np.array(len(placed), dtype=np.int32),
        }
        return [each[0] for each in self._session.run(wanted, told)]
