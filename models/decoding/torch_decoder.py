"""Decoding on the network itself: what the tests and the benchmarks hold the service's back end against."""

import numpy as np
import torch

from models.network.decoder import KVCache, Network


class TorchDecoder:
    """The network itself, with one preallocated cache a slot."""

    def __init__(self, network: Network, slots: int = 1) -> None:
        self._network, self.context, self.slots = network.eval(), network.config.context, slots
        self._store = torch.zeros(
            network.config.layers,
            2,
            slots,
            network.config.heads,
            self.context,
            network.config.width // network.config.heads,
        )
        self._length = torch.zeros(slots, dtype=torch.long)

    def prefill(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self._length[slot] = 0
        return self.extend(slot, placed)

    @torch.inference_mode()
    def extend(self, slot: int, placed: np.ndarray) -> np.ndarray:
        cache = KVCache.over(self._store[:, :, slot : slot + 1], int(self._length[slot]))
        hidden = self._network.hidden(torch.from_numpy(placed)[None], cache)[:, -1]
        self._length[slot] += len(placed)
        return self._network.logits(hidden)[0].double().numpy()

    @torch.inference_mode()
    def step(self, slots: np.ndarray, placed: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(slots)
        hidden = self._network.hidden_of_rows(torch.from_numpy(placed), self._store, rows, self._length[rows])
        self._length[rows] += 1
        return self._network.logits(hidden).double().numpy()
