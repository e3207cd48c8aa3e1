"""Decoding on ONNX Runtime: the graph of models/decoding/onnx_graph.py over one ragged cache that is written
in place.

A row's scores are the same to the last bit whoever decodes beside it (checked on the machine at hand by
tests/models/decoding/test_decoders.py).
"""

import numpy as np
import onnxruntime as ort

from models.tokens.place import WIDTH

# a waiting thread spins so long before it sleeps: longer spinning starves other processes, shorter slows two
# threads
SPIN_US = 50


def session_of(graph: bytes, threads: int) -> ort.InferenceSession:
    """A session on the CPU that leaves other processes room."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxDecoder:
    """A `Decoder` (models/decoding/loop.py). Use it from one thread at a time: its buffers are shared by all
    slots.

    A step runs a range of slots: those in it that were not asked write at their next free position, which
    their next token overwrites.
    """

    AT_ONCE = 64  # tokens of a prompt in a pass: 500 take 110 MB, which is kept, and no less time
    MERGE = 2  # idle slots worth running to spare a second run
    MANY = 6  # rows from which on more threads than one are faster

    def __init__(self, graph: bytes, slots: int = 1, threads: int = 1) -> None:
        """`threads`: for steps of MANY rows and for prompts; smaller steps take one, whose scores are the
        same to the bit."""
        self._session = session_of(graph, 1)
        self._wide = session_of(graph, threads) if threads > 1 else self._session
        shape = {
            name: int(value) for name, value in self._session.get_modelmeta().custom_metadata_map.items()
        }
        self.context, self.slots = shape["context"], slots
        # (2 * layers, slots, H, C, E); the last position is scrap for idle slots that are full
        self._cache = np.zeros(
            (2 * shape["layers"], slots, shape["heads"], self.context + 1, shape["width"] // shape["heads"]),
            np.float32,
        )
        self._length = np.zeros(slots, np.int32)  # tokens in a slot
        self._placed, self._seqlens, self._total = (
            np.zeros((slots, 1, WIDTH), np.int32),
            np.zeros(slots, np.int32),
            np.zeros((), np.int32),
        )
        self._logits = np.zeros((slots, self._session.get_outputs()[0].shape[1]), np.float32)
        self._steps: dict[tuple[int, int], ort.IOBinding] = {}

    def _bind(self, session: ort.InferenceSession, placed: np.ndarray, slot: int) -> ort.IOBinding:
        """Inputs and outputs for `placed` (B, T, WIDTH) in the slots from `slot` on: addresses inside our
        arrays, nothing is copied."""
        binding, rows = session.io_binding(), len(placed)
        binding.bind_input("placed", "cpu", 0, np.int32, placed.shape, placed.ctypes.data)
        binding.bind_input("seqlens", "cpu", 0, np.int32, [rows], self._seqlens[slot:].ctypes.data)
        binding.bind_input("total", "cpu", 0, np.int32, [], self._total.ctypes.data)
        for j, store in enumerate(self._cache):
            name, shape, address = (
                f"{'kv'[j % 2]}{j // 2}",
                (rows, *store.shape[1:]),
                store[slot:].ctypes.data,
            )
            binding.bind_input(name, "cpu", 0, np.float32, shape, address)
            binding.bind_output(f"{name}_out", "cpu", 0, np.float32, shape, address)
        binding.bind_output(
            "logits", "cpu", 0, np.float32, [rows, self._logits.shape[1]], self._logits[slot:].ctypes.data
        )
        return binding

    def prefill(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self._length[slot] = 0
        return self.extend(slot, placed)

    def extend(self, slot: int, placed: np.ndarray) -> np.ndarray:
        length = int(self._length[slot]) + len(placed)
        if length > self.context:
            raise ValueError(f"{length} tokens in a context of {self.context}")
        for at in range(0, len(placed), self.AT_ONCE):
            self._read(slot, placed[at : at + self.AT_ONCE])
        return self._logits[slot].astype(np.float64)

    def _read(self, slot: int, placed: np.ndarray) -> None:
        tokens = np.ascontiguousarray(placed[None], dtype=np.int32)
        length = int(self._length[slot]) + tokens.shape[1]
        self._seqlens[slot], self._total[...] = length - 1, length
        session = self._wide if tokens.shape[1] > self.MANY else self._session
        session.run_with_iobinding(self._bind(session, tokens, slot))
        self._length[slot] = length

    def step(self, slots: np.ndarray, placed: np.ndarray) -> np.ndarray:
        if self._length[slots].max() >= self.context:
            raise ValueError(f"a slot is full: {self.context} tokens")
        self._placed[slots, 0] = placed
        self._seqlens[:] = self._length
        order = np.sort(slots)
        for run in np.split(order, np.flatnonzero(np.diff(order) > self.MERGE + 1) + 1):
            first, end = int(run[0]), int(run[-1]) + 1
            self._total[...] = self._length[first:end].max() + 1
            session = self._wide if end - first >= self.MANY else self._session
            if (first, end) not in self._steps:
                self._steps[first, end] = self._bind(session, self._placed[first:end], first)
            session.run_with_iobinding(self._steps[first, end])
        self._length[slots] += 1
        return self._logits[slots].astype(np.float64)
