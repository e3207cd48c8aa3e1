"""Samples to hear and see: some of those that are measured, one for every style, and one for every fill task
on a test piece."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from models.decoding.loop import Decoder
from models.fill.fill import fill
from models.fill.request import FillRequest, extended, plan_of
from models.fill.sampling import Sample
from models.tokens.labels import Labels
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.form import first_bars, to_midi
from music.writing.pianoroll import save_piano_roll
from pipelines.running.files import write_json
from pipelines.running.params import Evaluate

SAMPLES = Path("samples")
FILL_BARS = 12  # bars of the test pieces that are filled


def save_samples(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    test: Shard,
    samples: list[Sample],
    nearest: list[dict[str, Any]],
    knobs: Evaluate,
) -> None:
    """Write samples/*.mid with a piano roll beside each, and samples/index.json with what was asked."""
    shutil.rmtree(SAMPLES, ignore_errors=True)
    SAMPLES.mkdir(parents=True)
    index = []
    valid = [s for s in samples if s.score is not None]
    first_of_style = {s.request.labels.style: n for n, s in reversed(list(enumerate(valid)))}
    chosen = sorted({*range(min(knobs.listen, len(valid))), *first_of_style.values()})
    for n in chosen:
        sample, labels = valid[n], valid[n].request.labels
        assert sample.score is not None
        name = "_".join(
            word.replace(" ", "-") for word in (f"{n:02d}", labels.style, labels.rhythm, labels.key) if word
        )
        index.append(
            _save(sample.score, name)
            | {
                "task": "compose",
                "style": labels.style,
                "rhythm": labels.rhythm,
                "key": labels.key,
                "seed": sample.request.seed,
                **nearest[n],
            }
        )
    for task, request, piece in fill_requests(tokenizer, test, knobs):
        before = request.score
        assert before is not None
        name = f"fill_{task.replace(' ', '-')}"
        filled = fill(decoder, tokenizer, [request])[0]
        save_piano_roll(before, SAMPLES / f"{name}_before.png", f"{task}, before: {piece}")
        index.append(
            _save(filled.score, name, request.missing)
            | {"task": task, "piece": piece, "seed": request.seed, "contract": filled.contract}
        )
    write_json(SAMPLES / "index.json", index)


def _save(score: Score, name: str, region: np.ndarray | None = None) -> dict[str, Any]:
    (SAMPLES / f"{name}.mid").write_bytes(to_midi(score))
    save_piano_roll(score, SAMPLES / f"{name}.png", name.replace("_", ", "), region)
    return {"file": f"{name}.mid"}


def fill_requests(
    tokenizer: CellTokenizer, test: Shard, knobs: Evaluate
) -> list[tuple[str, FillRequest, str]]:
    """One request for each fill task that some test piece allows: (task, request, piece id)."""
    found: list[tuple[str, FillRequest, str]] = []
    bars = np.array([len(test.bar_starts(i)) for i in range(len(test))])
    tracks = np.array([test.statistics(i).shape[1] for i in range(len(test))])
    for task, able in (
        ("continue", bars >= FILL_BARS),
        ("infill", bars >= FILL_BARS),
        ("harmonise", (bars >= FILL_BARS) & (tracks >= 4)),
        ("one voice", (bars >= FILL_BARS) & (tracks >= 2)),
    ):
        if not able.any():
            continue
        i = int(np.random.default_rng(knobs.seed).choice(np.flatnonzero(able)))
        score = first_bars(tokenizer.decode_ids(test.piece(i)), FILL_BARS)
        plan = plan_of(score)
        missing = np.zeros((len(plan.metres), len(plan.programs)), dtype=bool)
        if task == "continue":
            score = first_bars(score, FILL_BARS // 2)
            score, plan, missing = extended(score, plan_of(score), FILL_BARS // 2)
        elif task == "infill":
            missing[4:8] = True
        elif task == "harmonise":
            missing[:, 1:] = True
        else:
            missing[:, -1] = True
        record = test.records[i]
        labels = Labels(record["style"], record["rhythm"], record["key"], len(plan.metres))
        found.append(
            (
                task,
                FillRequest(
                    plan, missing, labels, knobs.seed, score, temperature=knobs.temperature, top_p=knobs.top_p
                ),
                record["piece_id"],
            )
        )
    return found
