"""Tokens with places for tests of the network: ids as given, places at random."""

import numpy as np
import torch

from models.tokens.place import COPIES, FIRST, SIZES, WIDTH


def places_at_random(ids: np.ndarray, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Tokens (.., n) with places, int32 (.., n, WIDTH)."""
    random = np.random.default_rng(seed)
    placed = np.zeros((*ids.shape, WIDTH), dtype=np.int32)
    placed[..., 0] = ids
    placed[..., 1 : 1 + COPIES] = random.integers(0, vocabulary, (*ids.shape, COPIES))
    values = (random.random((*ids.shape, len(SIZES))) * np.array(list(SIZES.values()))).astype(np.int64)
    placed[..., 1 + COPIES :] = np.where(random.random(values.shape) < 0.5, 0, FIRST + values)
    return placed


def placed_tensor(ids: torch.Tensor, vocabulary: int, seed: int = 0) -> torch.Tensor:
    """The same for tensors."""
    return torch.from_numpy(places_at_random(ids.numpy(), vocabulary, seed))
