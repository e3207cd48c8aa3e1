"""Decoding speed: our engine with its grammar on, against `transformers.generate` of the same weights and
midigpt's own network of the same size.

All are timed in turns in one run, so that a noisy machine is noisy for all. `transformers` and midigpt write
free tokens: no grammar, no sampling constraints; midigpt's network is called by its own cached forward pass,
one sequence at a time, as its server does.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from models.bundle import Bundle, open_bundle
from models.decoding.batching import Batcher, Ticket
from models.decoding.grammar import Grammar
from models.decoding.loop import Batch, Decoder
from models.decoding.onnx_decoder import OnnxDecoder
from models.decoding.onnx_graph import build_graph
from models.decoding.script import Plan
from models.decoding.torch_decoder import TorchDecoder
from models.fill.region import Region
from models.fill.request import Filled, FillRequest, empty
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.score.form import end_tick

BARS, METRE, TEMPO_QPM = 16, (6, 8), 120.0
BATCHES = (1, 4, 16)
ROUNDS = 4  # a request that leaves is followed by the next, as in a service
PEER_TOKENS = 160  # tokens a sequence, about what 16 bars of a tune take


def requests(tokenizer: CellTokenizer, count: int) -> list[FillRequest]:
    metre = METRE if METRE in tokenizer.metres else tokenizer.metres[0]
    plan = Plan((metre,) * BARS, (tokenizer.programs[0] if 40 not in tokenizer.programs else 40,))
    return [FillRequest(plan, empty(plan), Labels(bars=BARS), seed, top_p=0.98) for seed in range(count)]


def ours(engine: Batcher, tokenizer: CellTokenizer, count: int) -> dict[str, float]:
    """One timed turn: tokens, notes and seconds of music a second, and median seconds from a request to its
    first note; ROUNDS times `count` requests, `count` at work."""
    asked = deque(requests(tokenizer, ROUNDS * count))
    begin = time.monotonic()
    at_work, answers, waits = deque[tuple[float, Ticket[Filled]]](), list[Filled](), list[float]()
    while asked or at_work:
        while asked and len(at_work) < count:
            at_work.append((time.monotonic(), engine.submit(Region(tokenizer, asked.popleft()))))
        since, ticket = at_work.popleft() if len(at_work) == 1 else next_done(at_work)
        answers.append(ticket.result())
        waits.append(ticket.job.first_note_at - since)
    seconds = time.monotonic() - begin
    tokens, notes = sum(len(a.ids) for a in answers), sum(a.score.note_num() for a in answers)
    music = sum(end_tick(a.score) / a.score.tpq for a in answers) * 60 / TEMPO_QPM
    return {
        "tokens": tokens / seconds,
        "notes": notes / seconds,
        "music": music / seconds,
        "first": statistics.median(waits),
    }


def next_done(at_work: "deque[tuple[float, Ticket[Filled]]]") -> tuple[float, Ticket]:
    """Wait for the first request that is done and take it out."""
    wait([ticket.future for _, ticket in at_work], return_when=FIRST_COMPLETED)
    found = next(pair for pair in at_work if pair[1].future.done())
    at_work.remove(found)
    return found


def transformers_turn(
    network: Network, tokenizer: CellTokenizer, length: int
) -> Callable[[int], dict[str, float]]:
    import transformers

    from models.network.huggingface import llama_config

    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**llama_config(network.config, tokenizer.eos_id, 0))
    ).eval()
    model.load_state_dict(network.state_dict(), strict=False)
    model.tie_weights()
    prompt = torch.tensor([*tokenizer.prefix(Labels(bars=BARS)), tokenizer.first_id["Bar"]])
    never_ends = {
        "do_sample": True,
        "top_p": 0.98,
        "top_k": 0,
        "max_new_tokens": length,
        "min_new_tokens": length,
        "pad_token_id": 0,
    }

    def turn(count: int) -> dict[str, float]:
        begin = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                prompt.repeat(count, 1),
                attention_mask=torch.ones(count, len(prompt), dtype=torch.long),
                **never_ends,
            )
        return {"tokens": count * (out.shape[1] - len(prompt)) / (time.perf_counter() - begin)}

    return turn


def midigpt_turn(network: Network, length: int) -> tuple[Callable[[int], dict[str, float]], int]:
    """midigpt's decoder-only network with as many layers and heads and the same width; its feed-forward is 4
    times the width."""
    from midigpt.inference.model.gpt2 import GPT2Config, GPT2LMHeadModel

    c = network.config
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=c.vocabulary,
            n_positions=2 * c.context,
            n_embd=c.width,
            n_layer=c.layers,
            n_head=c.heads,
        )
    ).eval()

    def turn(count: int) -> dict[str, float]:
        assert count == 1
        begin = time.perf_counter()
        with torch.inference_mode():
            ids, past = torch.zeros(1, 5, dtype=torch.long), None
            for _ in range(length):
                logits, past = model(ids, past)[:2]
                ids = torch.multinomial(torch.softmax(logits[:, -1], dim=-1), 1)
        return {"tokens": length / (time.perf_counter() - begin)}

    return turn, sum(p.numel() for p in model.parameters())


def mask_share(decoder: Decoder, tokenizer: CellTokenizer, count: int) -> float:
    """Share of a step that the grammar's mask takes: both timed on the same running batch, which is one
    lane's."""
    batch = Batch(decoder, Grammar(tokenizer, decoder.slots))
    count = min(count, decoder.slots)
    for request in requests(tokenizer, count):
        batch.admit(Region(tokenizer, request).job(decoder.context, float("inf")))
    masks, steps = [], []
    for _ in range(60):
        if len(batch) < count:
            break
        if not batch.due():
            batch.step()
            continue
        begin = time.perf_counter()
        batch.mask()
        middle = time.perf_counter()
        batch.step()
        masks.append(middle - begin)
        steps.append(time.perf_counter() - middle)
    return statistics.median(masks) / statistics.median(steps)


def network_of(size: str, bundle: Bundle) -> Network:
    """The champion's own weights for its size, random weights of the other sizes: speed does not depend on
    them."""
    if bundle.lineage["network"] == size:
        return bundle.network
    torch.manual_seed(0)
    return Network(
        sized(size, vocabulary=len(bundle.tokenizer), context=bundle.network.config.context)
    ).eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["small"])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    bundle = open_bundle(Path("bundle"))
    tokenizer = bundle.tokenizer
    rows: list[dict[str, Any]] = []
    targets: dict[str, dict[str, Any]] = {}
    for size in options.sizes:
        network = network_of(size, bundle)
        weights = {name: value.numpy() for name, value in network.state_dict().items()}
        graphs = {
            bits: build_graph(weights, network.config, eight_bit=bits == "8-bit")
            for bits in ("fp32", "8-bit")
        }
        midigpt, parameters = midigpt_turn(network, PEER_TOKENS)
        peers = {"transformers": transformers_turn(network, tokenizer, PEER_TOKENS), "midigpt": midigpt}
        for count in BATCHES:
            decoders: dict[str, list[Decoder]] = {"torch fp32": [TorchDecoder(network, count)]}
            for bits, graph in graphs.items():
                for lanes in (1, 2)[: 1 + (count > 1)]:
                    decoders[f"ONNX {bits}, {lanes} lane{'s' * (lanes > 1)}"] = [
                        OnnxDecoder(graph, -(-count // lanes)) for _ in range(lanes)
                    ]
            engines = {name: Batcher(mine, tokenizer) for name, mine in decoders.items()}
            found: dict[str, list[dict[str, float]]] = {}
            for turn in range(options.turns + 1):
                for name, engine in engines.items():
                    found.setdefault(name, []).append(ours(engine, tokenizer, count))
                for name, peer in peers.items():
                    if name != "midigpt" or count == 1:
                        found.setdefault(name, []).append(peer(count))
                if turn == 0:
                    found.clear()  # the first turn pays for caches
            for engine in engines.values():
                engine.close()
            rows += table_rows(size, count, found, rows)
            best = max(
                (name for name in engines if "8-bit" in name), key=lambda name: median(found[name], "tokens")
            )
            share = mask_share(decoders[best][0], tokenizer, count)
            rows[-1]["mask, share of a step"] = f"{share:.1%} ({best})"
            targets |= targets_of(size, count, best, found, rows, share)
        rows.append(
            {
                **dict.fromkeys(rows[0], ""),
                "network": size,
                "engine": f"ours {network.parameter_count():,} parameters, midigpt's {parameters:,}",
            }
        )
    report.write("decode", rows, targets)


def median(turns: list[dict[str, float]], name: str) -> float:
    return statistics.median(turn[name] for turn in turns)


def table_rows(
    size: str, count: int, found: dict[str, list[dict[str, float]]], before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row an engine; midigpt's speed at one request stands for it at any number, because it serves one at
    a time."""
    transformers = median(found["transformers"], "tokens")
    midigpt = (
        median(found["midigpt"], "tokens")
        if "midigpt" in found
        else next(
            float(row["tokens/s"]) for row in before if row["engine"] == "midigpt" and row["network"] == size
        )
    )
    rows = []
    for name, turns in found.items():
        speed = median(turns, "tokens")
        mine = "music" in turns[0]
        rows.append(
            {
                "network": size,
                "requests": count,
                "engine": name,
                "tokens/s": round(speed),
                "notes/s": round(median(turns, "notes")) if mine else "",
                "seconds of music a second": round(median(turns, "music"), 1) if mine else "",
                "first note, ms": round(1000 * median(turns, "first"), 1) if mine else "",
                "x transformers": round(speed / transformers, 2),
                "x midigpt": round(speed / midigpt, 2),
                "mask, share of a step": "",
            }
        )
    return rows


def targets_of(
    size: str,
    count: int,
    best: str,
    found: dict[str, list[dict[str, float]]],
    rows: list[dict[str, Any]],
    share: float,
) -> dict[str, dict[str, Any]]:
    row = next(
        row
        for row in reversed(rows)
        if row["engine"] == best and row["network"] == size and row["requests"] == count
    )
    wanted = {1: (3.0, 2.5), 16: (4.0, 10.0)}.get(count)
    targets = {f"{size}_{count}_mask_share": report.target(share, "<=", 0.1)}
    if wanted:
        targets |= {
            f"{size}_{count}_x_transformers": report.target(row["x transformers"], ">=", wanted[0]),
            f"{size}_{count}_x_midigpt": report.target(row["x midigpt"], ">=", wanted[1]),
        }
    return targets


if __name__ == "__main__":
    main()
