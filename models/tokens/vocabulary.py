"""A trained network under another vocabulary: rows of the embedding are carried over by the name of their
token."""

import torch
from torch import Tensor

from models.tokens.tokenizer import CellTokenizer

EMBEDDING = "model.embed_tokens.weight"


def grown(weights: dict[str, Tensor], old: CellTokenizer, new: CellTokenizer) -> dict[str, Tensor]:
    """The same weights for the tokens of `new`: a token that `old` lacks starts as the mean of its kind (or
    of all)."""
    table = weights[EMBEDDING]
    rows = torch.empty(len(new), table.shape[1])
    for token, i in new.vocab.items():
        if token in old.vocab:
            rows[i] = table[old.vocab[token]]
            continue
        kind = token.split("_", 1)[0]
        first, size = old.first_id.get(kind, 0), old.block_size.get(kind, 0)
        rows[i] = table[first : first + size].mean(dim=0) if size else table.mean(dim=0)
    return {**weights, EMBEDDING: rows}
