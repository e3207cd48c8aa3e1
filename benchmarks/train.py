"""Training speed: our network against `transformers`' Llama of the same shape in the same loop, against the
machine's matmul peak, and where the time goes.

Same rows, same optimiser (AdamW), same autocast; timed in turns. Muon and our window loader are timed apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import report
from models.network.config import sized
from models.network.decoder import Network
from models.network.optimizer import MuonAdamW
from models.network.training import best_precision
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard
from models.tokens.windows import Augmentation, Mixture, WindowDataset, piece_weights
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")


def peak_gflops(dtype: torch.dtype, size: int = 1536, times: int = 6) -> float:
    """Best of several square matrix products, in GFLOP/s: what this machine can do at most."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds) / 1e9


def step_of(
    network: nn.Module, loss: Callable[[Tensor], Tensor], optimiser: torch.optim.Optimizer, bf16: bool
) -> Callable[[Tensor], dict[str, float]]:
    """A training step that tells seconds of its forward pass, backward pass and update."""

    def step(rows: Tensor) -> dict[str, float]:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(rows)
        forward = time.perf_counter()
        value.backward()  # type: ignore[no-untyped-call]
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        end = time.perf_counter()
        return {
            "forward": forward - begin,
            "backward": backward - forward,
            "update": end - backward,
            "all": end - begin,
        }

    return step


def our_loss(network: Network) -> Callable[[Tensor], Tensor]:
    return lambda rows: network.loss(rows[:, :-1], rows[:, 1:, 0].long())


def contenders(
    size: str, vocabulary: int, context: int, bf16: bool
) -> dict[str, Callable[[Tensor], dict[str, float]]]:
    import transformers

    from models.network.huggingface import llama_config

    def adamw(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    found: dict[str, Callable[[Tensor], dict[str, float]]] = {}
    for name, dropout, mixed in (
        ("ours", 0.0, bf16),
        ("ours, fp32", 0.0, False),
        ("ours, dropout 0.1", 0.1, bf16),
    ):
        network = Network(sized(size, vocabulary=vocabulary, context=context, dropout=dropout)).train()
        found[name] = step_of(network, our_loss(network), adamw(network), mixed)
    network = Network(sized(size, vocabulary=vocabulary, context=context)).train()
    found["ours, Muon"] = step_of(
        network, our_loss(network), MuonAdamW(network, matrix_rate=0.02, rate=0.003, weight_decay=0.1), bf16
    )
    for attention in ("sdpa", "eager"):
        theirs = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                **llama_config(network.config, 1, 0) | {"attn_implementation": attention}
            )
        ).train()
        found[f"transformers, {attention}"] = step_of(
            theirs,
            lambda rows, theirs=theirs: (  # type: ignore[misc]
                theirs(input_ids=rows[:, :-1, 0], labels=rows[:, :-1, 0], use_cache=False).loss
            ),
            adamw(theirs),
            bf16,
        )
    return found


def window_rows(rows: int) -> tuple[Tensor, float]:
    """Rows of a training batch, tokens with their places, and seconds to make one."""
    params, tokenizer, shard = (
        load_params(),
        load_tokenizer(TOKENS / "tokenizer.json"),
        Shard(TOKENS, "train"),
    )
    knobs = params.finetune
    data = WindowDataset(
        shard,
        tokenizer,
        params.network.context,
        Augmentation(knobs.transpose),
        Mixture(**knobs.mixture.model_dump()),
        1,
        0,
        rows,
        piece_weights(shard, 1.0, 0.0),
    )
    begin = time.perf_counter()
    made = torch.stack([data[i][0] for i in range(rows)])
    return made.long(), (time.perf_counter() - begin) / rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="small")
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    params, tokenizer = load_params(), load_tokenizer(TOKENS / "tokenizer.json")
    bf16 = best_precision() == "bf16-mixed"
    batch, context = params.pretrain.batch_size, params.network.context
    torch.manual_seed(0)
    rows = window_rows(batch)[0]
    steps = contenders(options.size, len(tokenizer), context, bf16)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for turn in range(options.turns + 1):
        for name, step in steps.items():
            seconds = step(rows)
            if turn:
                times[name].append(seconds)
    peaks = {
        "bf16": peak_gflops(torch.bfloat16) if bf16 else float("nan"),
        "fp32": peak_gflops(torch.float32),
    }
    network = Network(sized(options.size, vocabulary=len(tokenizer), context=context))
    c = network.config
    flops = (
        6 * network.parameter_count() + 12 * c.layers * c.width * context / 2
    )  # a token: matrices, and causal attention at half
    table: list[dict[str, Any]] = []
    base = statistics.median(turn["all"] for turn in times["transformers, sdpa"])
    for name, turns in times.items():
        middle = {part: statistics.median(turn[part] for turn in turns) for part in turns[0]}
        speed = batch * context / middle["all"]
        peak = peaks["fp32" if "fp32" in name or not bf16 else "bf16"]
        table.append(
            {
                "network": name,
                "tokens/s": round(speed),
                "x transformers": round(base / middle["all"], 2),
                "of the matmul peak": f"{speed * flops / 1e9 / peak:.0%}",
                **{
                    f"{part}, share": f"{middle[part] / middle['all']:.0%}"
                    for part in ("forward", "backward", "update")
                },
            }
        )
    table.append(
        {
            **dict.fromkeys(table[0], ""),
            "network": (
                f"matmul peak: bf16 {peaks['bf16']:.0f}, fp32 {peaks['fp32']:.0f} GFLOP/s; making a "
                f"batch of windows takes {1000 * batch * window_rows(80)[1]:.0f} ms"
            ),
        }
    )
    report.write(
        "train",
        table,
        {
            "x_transformers": report.target(
                base / statistics.median(turn["all"] for turn in times["ours"]), ">=", 1.5
            )
        },
    )


if __name__ == "__main__":
    main()
