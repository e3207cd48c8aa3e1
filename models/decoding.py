"""Decoding: batches of sequences under the grammar, with a preallocated KV cache and a seed for each request."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from models.grammar import Grammar, Plan
from models.network import KVCache, Network
from models.tokens import CellTokenizer, Labels


@dataclass(frozen=True)
class Request:
    """One sequence to write. `temperature` scales logits; `top_p` keeps the smallest set of tokens with that probability."""

    plan: Plan
    labels: Labels
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0


class NextToken(Protocol):
    """Gives log probabilities (R, V), up to a constant, of the next token of each row; told of each choice."""

    def start(self, requests: Sequence[Request]) -> np.ndarray: ...
    def step(self, tokens: np.ndarray, bars: np.ndarray) -> np.ndarray: ...
    def keep(self, rows: np.ndarray) -> None: ...


class NetworkNext:
    """Next-token scores of the network. When the cache is full it is rebuilt from the last half context of each row."""

    def __init__(self, network: Network, tokenizer: CellTokenizer) -> None:
        self._network, self._tokenizer = network.eval(), tokenizer

    def start(self, requests: Sequence[Request]) -> np.ndarray:
        self._requests = list(requests)
        self._bodies: list[list[int]] = [[] for _ in requests]
        self._bar_at: list[list[int]] = [[] for _ in requests]  # index in the body of each Bar token
        return self._refill()

    def _prompt(self, row: int) -> list[int]:
        """Control tokens and the tail of what is written: all of it, or from the first bar inside the last half context."""
        request, body, bar_at = self._requests[row], self._bodies[row], self._bar_at[row]
        bar = next((b for b, at in enumerate(bar_at) if len(body) - at <= self._network.config.context // 2), len(bar_at))
        at = bar_at[bar] if bar < len(bar_at) else max(len(body) - self._network.config.context // 2, 0)
        left = len(request.plan.metres) - min(bar, len(bar_at) - 1 if bar_at else 0)
        asked = left if 0 < left <= self._tokenizer.max_bars_control and request.labels.bars else 0
        return self._tokenizer.prefix(replace(request.labels, bars=asked, excerpt=at > 0)) + body[at:]

    def _refill(self) -> np.ndarray:
        prompts = [self._prompt(row) for row in range(len(self._requests))]
        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        self._pad = torch.tensor([width - len(prompt) for prompt in prompts])
        self._cache = KVCache(self._network.config, len(prompts))
        return self._run(ids)

    def _run(self, ids: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return self._network(ids, self._cache, self._pad)[:, -1].double().numpy()

    def step(self, tokens: np.ndarray, bars: np.ndarray) -> np.ndarray:
        for row, token in enumerate(tokens):
            if bars[row] >= len(self._bar_at[row]):
                self._bar_at[row].append(len(self._bodies[row]))
            self._bodies[row].append(int(token))
        if self._cache.length == self._cache.context:
            return self._refill()
        return self._run(torch.from_numpy(tokens)[:, None])

    def keep(self, rows: np.ndarray) -> None:
        self._requests = [self._requests[int(row)] for row in rows]
        self._bodies = [self._bodies[int(row)] for row in rows]
        self._bar_at = [self._bar_at[int(row)] for row in rows]
        self._pad = self._pad[rows]
        self._cache.store = self._cache.store[:, :, rows]


def choose(scores: np.ndarray, legal: np.ndarray, draws: np.ndarray, temperature: np.ndarray, top_p: np.ndarray) -> np.ndarray:
    """Sample one legal token a row: scores (R, V) in float64, draws uniform in [0, 1). Nucleus sampling: Holtzman et al. 2020.

    Example: probabilities .5 .3 .2 and top_p .6 keep the first two (.5 alone is short of .6), then draw among .625 .375.
    """
    scaled = np.where(legal, scores / temperature[:, None], -np.inf)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    order = np.argsort(-weights, axis=1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=1)
    cumulative = ranked.cumsum(axis=1)
    ranked[cumulative - ranked >= top_p[:, None]] = 0.0
    cumulative = ranked.cumsum(axis=1)
    pick = (cumulative <= (draws * cumulative[:, -1])[:, None]).sum(axis=1)
    pick = np.minimum(pick, (ranked > 0).sum(axis=1) - 1)
    return order[np.arange(len(order)), pick]


def generate(model: NextToken, tokenizer: CellTokenizer, requests: Sequence[Request], deadline_s: float | None = None) -> list[np.ndarray]:
    """Token sequences (without control tokens, with EOS), one a request, all decoded together. Raises TimeoutError past the deadline."""
    end = time.monotonic() + deadline_s if deadline_s is not None else float("inf")
    grammar = Grammar(tokenizer, [request.plan for request in requests])
    generators = [np.random.default_rng(request.seed) for request in requests]
    temperature = np.array([request.temperature for request in requests])
    top_p = np.array([request.top_p for request in requests])
    written: list[list[int]] = [[] for _ in requests]
    active = np.arange(len(requests))
    scores = model.start(requests)
    while True:
        if time.monotonic() > end:
            raise TimeoutError(f"decoding took more than {deadline_s} s")
        draws = np.array([generators[i].random() for i in active])
        tokens = choose(scores, grammar.mask(), draws, temperature[active], top_p[active])
        grammar.advance(tokens)
        for i, token in zip(active, tokens, strict=True):
            written[i].append(int(token))
        bars = grammar.bar_of()
        if grammar.finished.any():
            rows = np.flatnonzero(~grammar.finished)
            if not len(rows):
                return [np.array(ids, dtype=np.uint16) for ids in written]
            grammar.keep(rows)
            model.keep(rows)
            active, tokens, bars = active[rows], tokens[rows], bars[rows]
        scores = model.step(tokens, bars)
