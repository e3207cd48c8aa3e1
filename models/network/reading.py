"""What reading whole sequences needs of a network: torch has it (models/network/decoder.py) and ONNX Runtime
(models/decoding/onnx_reader.py), so that the service needs no torch."""

from typing import Protocol

import numpy as np

from models.network.config import NetworkConfig


class Reads(Protocol):
    """Sequences are tokens with their places, int32 (B, T, WIDTH), T at most `config.context`; shorter rows
    end in zeros."""

    @property
    def config(self) -> NetworkConfig: ...

    def nats(self, placed: np.ndarray) -> np.ndarray:
        """Nats of each token after the first, float32 (B, T - 1)."""
        ...

    def mean_states(self, placed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Means over the first `lengths` (B,) tokens of the hidden states after half of the layers and of
        those after the last, with the final norm: float32 (B, 2 * width)."""
        ...
