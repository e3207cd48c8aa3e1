"""The costly parts of a training step on a processor, each with its backward pass written out.

They compute what torch's own functions compute, in fewer passes over memory, and attention never looks at
what lies wholly ahead:
`python -m benchmarks.train` has what that is worth. B: batch, T: tokens, D: width, H: heads, E: width of a
head, F: inner width, V: vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

BLOCK = 128  # queries at once: a block reads the keys up to its own end, 5/8 of the square at 512 tokens
MOST_LIKELY = 0.999  # of a token that is to be avoided
ROWS = 1024  # hidden states whose logits exist at once


def helps(x: Tensor) -> bool:
    """Whether x is in a training step on a processor; elsewhere torch's own functions are as good."""
    return torch.is_grad_enabled() and x.device.type == "cpu"


def working_type(x: Tensor) -> torch.dtype:
    """What matrices are multiplied in: autocast's type if it is on, else that of x."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else x.dtype


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Turn pairs (i, i + E/2) of x (.., T, E) by position into `out`; cos and sin are (T, E/2)."""
    (a, b), (c, d) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=d).addcmul_(a, sin)


class CausalAttention(Function):
    """Rotary positions and causal attention of all heads: (B, T, 3 D) of queries, keys and values to (B, T,
    D).

    Works block by block of queries; the weights are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:  # type: ignore[override]
        """Cos and sin: (T, E/2)."""
        B, T, D3 = qkv.shape
        E = D3 // 3 // heads
        cos, sin = cos.to(qkv.dtype), sin.to(qkv.dtype)
        parts = qkv.view(B, T, 3, heads, E).permute(2, 0, 3, 1, 4)  # (3, B, H, T, E)
        held = torch.empty(parts.shape, dtype=qkv.dtype)
        rotate_halves(parts[0], cos * E**-0.5, sin * E**-0.5, held[0])
        rotate_halves(parts[1], cos, sin, held[1])
        held[2].copy_(parts[2])
        q, k, v = held.flatten(1, 2)  # (B H, T, E)
        ahead = torch.full((BLOCK, BLOCK), float("-inf"), dtype=qkv.dtype).triu(1)
        y = torch.empty(B, T, heads, E, dtype=qkv.dtype)
        weights = []
        for start in range(0, T, BLOCK):
            end = min(start + BLOCK, T)
            score = torch.bmm(q[:, start:end], k[:, :end].transpose(1, 2))  # (B H, end - start, end)
            score[:, :, start:].add_(ahead[: end - start, : end - start])
            weights.append(torch.softmax(score, dim=-1))
            y[:, start:end].copy_(
                torch.bmm(weights[-1], v[:, :end]).view(B, heads, end - start, E).transpose(1, 2)
            )
        ctx.save_for_backward(held, cos, sin, *weights)
        return y.view(B, T, D3 // 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        held, cos, sin, *weights = ctx.saved_tensors
        _, B, H, T, E = held.shape
        q, k, v = held.flatten(1, 2)
        dy = gradient.view(B, T, H, E).transpose(1, 2).contiguous().view(B * H, T, E)
        found = torch.zeros_like(held)
        dq, dk, dv = found.flatten(1, 2)
        for start, weight in zip(range(0, T, BLOCK), weights, strict=True):
            end = start + weight.shape[1]
            mine = dy[:, start:end]
            dv[:, :end].baddbmm_(weight.transpose(1, 2), mine)
            score = torch._softmax_backward_data(
                torch.bmm(mine, v[:, :end].transpose(1, 2)), weight, -1, weight.dtype
            )
            torch.bmm(score, k[:, :end], out=dq[:, start:end])
            dk[:, :end].baddbmm_(score.transpose(1, 2), q[:, start:end])
        dqkv = torch.empty(B, T, 3, H, E, dtype=held.dtype)
        parts = dqkv.permute(2, 0, 3, 1, 4)
        rotate_halves(found[0], cos * E**-0.5, sin * -(E**-0.5), parts[0])
        rotate_halves(found[1], cos, -sin, parts[1])
        parts[2].copy_(found[2])
        return dqkv.view(B, T, 3 * H * E), None, None, None


class SwiGLU(Function):
    """silu(gate) * up (Shazeer 2020): (.., 2 F), gate first, to (.., F)."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:  # type: ignore[override]
        gate, up = both.chunk(2, dim=-1)
        bent = F.silu(gate)
        ctx.save_for_backward(both, bent)
        return bent * up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        both, bent = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        found = torch.empty_like(both)
        dgate, dup = found.chunk(2, dim=-1)
        torch.mul(bent, gradient, out=dup)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=dgate)
        return found


class RMSNorm(Function):
    """x / rms(x) * weight (Zhang & Sennrich 2019): (.., D) to the same shape in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        scale = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            .square_()
            .div_(x.shape[-1])
            .add_(epsilon)
            .rsqrt_()
        )  # (.., 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        x, weight, scale = ctx.saved_tensors
        wide = gradient.to(x.dtype, copy=True)
        product = wide * x
        along = (product @ weight)[..., None] * scale**3 / -weight.numel()
        dx = wide.mul_(scale).mul_(weight).addcmul_(x, along)
        return dx, product.flatten(0, -2).T @ scale.flatten(), None, None


class CrossEntropy(Function):
    """Mean nats of the targets (N,) that are not `ignored`, from hidden states (N, D) and the output matrix
    (V, D), weighted by `weights` (N,); plus `unlikely` (N,) times -log(1 - p) of each of the tokens `avoided`
    (N, A) but the target (0: none): unlikelihood training (Welleck et al. 2020).

    Both gradients are made in the forward pass, some rows at a time, so that the (N, V) of logits never exist
    at once.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        targets: Tensor,
        ignored: int,
        weights: "Tensor | None" = None,
        avoided: "Tensor | None" = None,
        unlikely: "Tensor | None" = None,
    ) -> Tensor:
        counted = targets != ignored
        share = counted.float() if weights is None else counted * weights
        share = share / share.sum().clamp(min=1)
        index = torch.where(counted, targets, 0)[:, None]
        dhidden, dmatrix = torch.empty_like(hidden), torch.zeros(matrix.shape, device=matrix.device)
        loss = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), ROWS):
            part = slice(start, start + ROWS)
            logits = (hidden[part] @ matrix.T).float()
            normal = logits.logsumexp(dim=-1, keepdim=True)
            loss += ((normal - logits.gather(1, index[part]))[:, 0] * share[part]).sum()
            logits.sub_(normal).exp_()  # probabilities
            if avoided is not None and unlikely is not None:
                others = avoided[part]
                weight = unlikely[part, None].float() * ((others > 0) & (others != index[part]))
                p = logits.gather(1, others).clamp_(max=MOST_LIKELY)
                loss -= (weight * torch.log1p(-p) * share[part, None]).sum()
                pressed = weight * p / (1 - p)
                logits.mul_(1 - pressed.sum(dim=-1, keepdim=True)).scatter_add_(1, others, pressed)
            logits.scatter_add_(1, index[part], -torch.ones_like(normal)).mul_(share[part, None])
            dlogits = logits.to(hidden.dtype)
            torch.mm(dlogits, matrix, out=dhidden[part])
            dmatrix += dlogits.T @ hidden[part]
        ctx.save_for_backward(dhidden, dmatrix.to(matrix.dtype))
        return loss

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        dhidden, dmatrix = ctx.saved_tensors
        return dhidden * gradient, dmatrix * gradient, None, None, None, None, None
