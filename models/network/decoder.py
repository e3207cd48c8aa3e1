"""The network: a decoder-only transformer in Llama layout (RMSNorm, rotary positions, SwiGLU, tied
embeddings).

Parameter names are those of Hugging Face's LlamaForCausalLM. B: batch, T: tokens, D: width, H: heads, E:
width of a head, V: vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.network import fused
from models.network.config import NetworkConfig
from models.tokens.place import COPIES, ENTRIES

EPSILON = 1e-6  # of the norms
PLACE_SCALE = 0.005  # of the entries of places at the start: some thirty of them are summed


class KVCache:
    """Keys and values of every layer, preallocated: (layers, 2, B, H, context, E). `length` tokens are
    filled."""

    def __init__(
        self,
        config: NetworkConfig,
        batch: int,
        context: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.context = context or config.context
        self.store = torch.zeros(
            config.layers, 2, batch, config.heads, self.context, config.width // config.heads, device=device
        )
        self.length = 0

    @classmethod
    def over(cls, store: Tensor, length: int) -> "KVCache":
        """A view of one row or more of a larger store."""
        cache = cls.__new__(cls)
        cache.store, cache.length, cache.context = store, length, store.shape[4]
        return cache


def rotary_table(config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """Cos and sin, (2 * context, E): Su et al. 2021, in the half-split form of Llama."""
    half = config.width // config.heads // 2
    frequency = config.rope_base ** (-torch.arange(half) / half)
    angle = torch.outer(torch.arange(2 * config.context).float(), frequency)
    return torch.cat([angle.cos()] * 2, dim=-1), torch.cat([angle.sin()] * 2, dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + E/2) of x (B, H, T, E) by position; cos and sin are (T, E) or (B, 1, T, E)."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(config.width, config.width, bias=False) for _ in range(4)
        )

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, past: Tensor | None, start: int
    ) -> Tensor:
        B, T, D = x.shape
        dropout = self.dropout if self.training else 0.0
        if fused.helps(x) and mask is None and past is None and not dropout:
            qkv = F.linear(x, torch.cat([p.weight for p in (self.q_proj, self.k_proj, self.v_proj)]))
            half = cos.shape[-1] // 2
            return self.o_proj(fused.CausalAttention.apply(qkv, cos[:, :half], sin[:, :half], self.heads))
        q, k, v = (
            p(x).view(B, T, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, E)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if past is not None:  # (2, B, H, context, E)
            past[0, :, :, start : start + T], past[1, :, :, start : start + T] = k, v
            k, v = past[0, :, :, : start + T], past[1, :, :, : start + T]
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None and T > 1, dropout_p=dropout
        )
        return self.o_proj(y.transpose(1, 2).reshape(B, T, D))

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: Tensor, rows: Tensor, lengths: Tensor
    ) -> Tensor:
        """One token a row: x (B, 1, D); its key and value are written at `lengths` (B,) of `rows` (B,) of
        past (2, slots, H, context, E)."""
        B, _, D = x.shape
        q, k, v = (
            p(x).view(B, 1, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, 1, E)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        past[0, rows, :, lengths], past[1, rows, :, lengths] = k[:, :, 0], v[:, :, 0]
        longest = mask.shape[-1]
        y = F.scaled_dot_product_attention(
            q, past[0, rows, :, :longest], past[1, rows, :, :longest], attn_mask=mask
        )
        return self.o_proj(y.transpose(1, 2).reshape(B, 1, D))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up_proj = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down_proj = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if fused.helps(x):
            return self.down_proj(
                fused.SwiGLU.apply(F.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight])))
            )
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Norm(nn.RMSNorm):
    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return (
            fused.RMSNorm.apply(x, self.weight, EPSILON, fused.working_type(x))
            if fused.helps(x)
            else super().forward(x)
        )


class Layer(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.width)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.width)
        self.mlp = FeedForward(config)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, past: Tensor | None, start: int
    ) -> Tensor:
        x = x + F.dropout(
            self.self_attn(self.input_layernorm(x), cos, sin, mask, past, start), self.dropout, self.training
        )
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), self.dropout, self.training)

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: Tensor, rows: Tensor, lengths: Tensor
    ) -> Tensor:
        x = x + self.self_attn.step(self.input_layernorm(x), cos, sin, mask, past, rows, lengths)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.embed_places = nn.Embedding(ENTRIES, config.width)
        self.copies = nn.ModuleList(nn.Linear(config.width, config.width, bias=False) for _ in range(COPIES))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width)


class Network(nn.Module):
    """Tokens with their places (B, T, 1 + COPIES + F) in (models/tokens/place.py), logits (B, T, V) out; the
    output matrix is the embedding of tokens."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        cos, sin = rotary_table(config)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        # GPT-2's scale, with the residual writers shrunk by depth (Radford et al. 2019).
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, (Attention, FeedForward)):
            writer = module.o_proj if isinstance(module, Attention) else module.down_proj
            nn.init.normal_(writer.weight, std=0.02 / (2 * self.config.layers) ** 0.5)
        if isinstance(module, Trunk):
            nn.init.normal_(module.embed_places.weight, std=PLACE_SCALE)
            for copy in module.copies:
                nn.init.zeros_(copy.weight)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return self.cos.device

    def embed(self, placed: Tensor) -> Tensor:
        """Tokens with their places (.., 1 + COPIES + F) to what the layers read, (.., D)."""
        trunk, flat = self.model, placed.flatten(0, -2).long()
        x = trunk.embed_tokens(flat[:, 0])
        for i, copy in enumerate(trunk.copies):
            told = flat[:, 1 + i]
            x = x + copy(trunk.embed_tokens(told) * (told > 0)[:, None])
        entries = flat[:, 1 + COPIES :]
        if torch.is_grad_enabled():
            several = torch.zeros(len(flat), ENTRIES, dtype=fused.working_type(x), device=x.device)
            several.scatter_(1, entries, 1.0)
            several[:, 0] = 0.0
            x = x + several @ trunk.embed_places.weight.to(several.dtype)
        else:
            x = x + F.embedding_bag(entries, trunk.embed_places.weight, mode="sum", padding_idx=0)
        return x.view(*placed.shape[:-1], -1)

    def hidden(self, placed: Tensor, cache: KVCache | None = None) -> Tensor:
        """Last hidden states (B, T, D). With a cache, `placed` follow the tokens already in it."""
        start = cache.length if cache is not None else 0
        T = placed.shape[1]
        mask = None
        if start > 0 and T > 1:
            at = torch.arange(start + T, device=placed.device)
            mask = at <= at[start:, None]
        cos, sin = self.cos[start : start + T], self.sin[start : start + T]
        x = self.embed(placed)  # (B, T, D)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, mask, cache.store[i] if cache is not None else None, start)
        if cache is not None:
            cache.length += T
        return self.model.norm(x)

    def states(self, placed: Tensor, depths: Sequence[int]) -> list[Tensor]:
        """Hidden states (B, T, D) after so many layers each; after the last with the final norm."""
        T = placed.shape[1]
        x, found = self.embed(placed), dict[int, Tensor]()
        for i, layer in enumerate(self.model.layers, start=1):
            x = layer(x, self.cos[:T], self.sin[:T], None, None, 0)
            found[i] = self.model.norm(x) if i == len(self.model.layers) else x
        return [found[depth] for depth in depths]

    def hidden_of_rows(self, placed: Tensor, store: Tensor, rows: Tensor, lengths: Tensor) -> Tensor:
        """Last hidden states (B, D) of one token for each of `rows` (B,) of a store of caches, which hold
        `lengths` (B,) tokens each."""
        longest = int(lengths.max()) + 1
        mask = (torch.arange(longest, device=lengths.device) <= lengths[:, None])[
            :, None, None
        ]  # (B, 1, 1, longest)
        cos, sin = self.cos[lengths][:, None, None], self.sin[lengths][:, None, None]  # (B, 1, 1, E)
        x = self.embed(placed)[:, None]  # (B, 1, D)
        for i, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            x = layer.step(x, cos, sin, mask, store[i], rows, lengths)
        return self.model.norm(x)[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        """(.., D) to (.., V)."""
        return F.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, placed: Tensor, cache: KVCache | None = None) -> Tensor:
        return self.logits(self.hidden(placed, cache))

    def token_nats(self, placed: Tensor) -> Tensor:
        """Nats of each token after the first: placed (B, T, WIDTH) to float32 (B, T - 1)."""
        logits = self(placed[:, :-1]).float().transpose(1, 2)
        return F.cross_entropy(logits, placed[:, 1:, 0].long(), reduction="none")

    @torch.inference_mode()
    def nats(self, placed: np.ndarray) -> np.ndarray:
        """See models/network/reading.py, here and below."""
        self.eval()
        return self.token_nats(torch.from_numpy(placed).to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def mean_states(self, placed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.eval()
        counts, layers = torch.from_numpy(lengths), self.config.layers
        inside = (torch.arange(placed.shape[1]) < counts[:, None]).float()[:, :, None]
        states = self.states(torch.from_numpy(placed), (layers // 2, layers))
        return torch.cat(
            [(state.float() * inside).sum(1) / counts[:, None] for state in states], dim=1
        ).numpy()

    def loss(
        self,
        placed: Tensor,
        targets: Tensor,
        ignored: int = -100,
        weights: Tensor | None = None,
        avoided: Tensor | None = None,
        unlikely: Tensor | None = None,
    ) -> Tensor:
        """Mean nats of the targets (B, T) that are not `ignored`, each read at the token before it, `placed`
        (B, T, 1 + COPIES + F), by `weights` (B, T). avoided: tokens (B, T, A) that are to be less likely, by
        weights `unlikely` (B, T)."""
        hidden = self.hidden(placed).flatten(0, 1)
        matrix = self.model.embed_tokens.weight
        kind = fused.working_type(hidden)
        more = [None if each is None else each.flatten(0, 1) for each in (weights, avoided, unlikely)]
        rows = (hidden.to(kind), matrix.to(kind), targets.flatten())
        return fused.CrossEntropy.apply(*rows, ignored, *more)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
