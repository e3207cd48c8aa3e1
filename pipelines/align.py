"""Stage `align`: the model writes, rewards and people judge, the model learns from it."""

import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.compose import Composition, requests_of
from models.evaluation import half_judges, melodies_of
from models.labelling import save_judges
from models.network import Network, NetworkConfig
from models.preferences import Jury, Preference, guarded, score_of, seat, weights_of
from models.rewarding import save_rewards
from models.rewards import VOICES, Heard, Reference, Rewards, Tools, metre_profiles
from models.rollouts import Take, Writer, opening, prompts_like, real_takes, take_of
from models.shards import Shard, data_digest
from models.tokens import CellTokenizer, load_tokenizer
from models.windows import Augmentation, Mixture, WindowDataset
from music.score import to_midi
from music.similarity import RunIndex
from pipelines.files import run_stage, write_csv, write_json, write_parquet
from pipelines.params import Align, load_params
from pipelines.preferences import read_preferences
from pipelines.training import TOKENS, Run, load_weights, save_weights, train

if TYPE_CHECKING:
    from models.aligning import Aligning
    from models.rounds import Pair, Rounds

START, OUT, LIVE = Path("data/finetune"), Path("data/align"), Path("reports/align")
TAKES = pa.schema([("prompt", pa.int64()), ("take", pa.int64()), ("reward", pa.float64()), ("parts", pa.string()), ("asked", pa.string()), ("midi", pa.binary())])
SHOWN = 3  # examples of each reason in the report


def main() -> None:
    params = load_params()
    knobs = params.align
    config, weights = load_weights(START)
    tokenizer, shards = load_tokenizer(TOKENS / "tokenizer.json"), {split: Shard(TOKENS, split) for split in ("train", "valid")}
    preferences, quarantined = guarded(read_preferences())
    rewards = rewards_of(tokenizer, shards, knobs, preferences)
    if knobs.method == "none":
        leave(Run("align", knobs, config, {}, data_digest(TOKENS)), weights)
        return keep(rewards)
    run = Run("align", knobs, config, {"start": json.loads((START / "training.json").read_text()), "people": [asdict(p) for p in preferences]}, data_digest(TOKENS))
    counted = counted_of(tokenizer, preferences, rewards)
    rounds = learn(run, tokenizer, shards, rewards, weights, people_pairs(tokenizer, preferences, counted, config.context))
    keep(rewards)
    takes, totals = rounds.first()
    write_takes(takes, totals, rewards)
    write_report(knobs, takes, totals, rewards, preferences, counted, quarantined)


def keep(rewards: Rewards) -> None:
    """What was learned from, for `evaluate` and for choosing among drafts."""
    save_rewards(OUT / "rewards.safetensors", rewards)
    save_judges(OUT / "judges.safetensors", rewards.tools.judges)


def leave(run: Run, weights: dict[str, Any]) -> None:
    """Outputs of a stage that trained nothing."""
    for path in (LIVE, OUT):
        shutil.rmtree(path, ignore_errors=True)
    write_csv(LIVE / "plots/metrics/valid_reward.tsv", ["step\tvalid_reward"], [])
    write_json(LIVE / "metrics.json", {"step": 0})
    write_json(Path("reports/align_report.json"), {"method": "none"})
    save_weights(run, weights, {"steps": 0, "minutes": 0.0, "mlflow_run": ""})


def rewards_of(tokenizer: CellTokenizer, shards: dict[str, Shard], knobs: Align, preferences: list[Preference]) -> Rewards:
    """Every part with its reference, real pieces of the valid split, and the jury where anybody has spoken."""
    lines, owners = melodies_of(shards["train"], tokenizer)
    runs = RunIndex(lines, owners)
    valid = shards["valid"]
    openings = [opening(valid, tokenizer, i, knobs.bars) for i in range(len(valid))]
    tools = Tools(half_judges(shards["train"], tokenizer, knobs.bars), metre_profiles(openings), runs)
    reference = Reference.of([Heard(score, valid.labels(i)) for i, score in enumerate(openings)], tools)
    jury = seat(preferences, openings, tokenizer.ticks_per_quarter, tokenizer.velocity) if preferences else None
    return Rewards(knobs.rewards, tools, reference, jury, knobs.people if jury else 0.0)


def learn(run: Run, tokenizer: CellTokenizer, shards: dict[str, Shard], rewards: Rewards, weights: dict[str, Any], people: "list[Pair]") -> "Rounds":
    """Train, write data/align, and give the rounds it learned from."""
    assert isinstance(run.knobs, Align)
    knobs, made = run.knobs, list["Rounds"]()

    def make(clock: Any) -> "tuple[Aligning, Rounds]":
        module, rounds = parts(knobs, run.config, weights, tokenizer, shards, rewards, people, clock)
        made.append(rounds)
        return module, rounds

    train(run, make, watched="valid_held_reward", mode="max")
    trained = json.loads((OUT / "training.json").read_text())
    if trained["valid_held_reward"] < 0:  # no look held: likelihood or diversity had fallen at each
        print("no look kept nats per note and distinct n-grams: the weights stay as finetune left them. Raise align.anchor or lower align.learning_rate", flush=True)
        save_weights(run, weights, {**trained, "steps": 0})
    return made[0]


def parts(
    knobs: Align, config: NetworkConfig, weights: dict[str, Any], tokenizer: CellTokenizer, shards: dict[str, Shard], rewards: Rewards, people: "list[Pair]", clock: Any
) -> "tuple[Aligning, Rounds]":
    """The module that learns and the rounds that it learns from."""
    from models.aligning import Aligning, Hold
    from models.rounds import Rounds
    from models.training import ValidPieces

    assert knobs.method != "none"
    reference = Network(config)
    reference.load_state_dict(weights)
    writer = Writer(tokenizer, config)
    real = Augmentation(5, controls=True, unconditioned=0.1, most_bars=knobs.bars)
    rounds = Rounds(
        knobs.method, reference.eval(), writer, rewards, lambda count, seed: prompts_like(shards["train"], tokenizer, count=count, bars=knobs.bars, seed=seed),
        lambda first, rows: WindowDataset(shards["train"], tokenizer, config.context, real, Mixture(0.5, 0.25, 0.1, 0.15), knobs.seed, first, rows), clock,
        rounds=knobs.rounds, count=knobs.prompts, takes=knobs.takes, kept=knobs.kept, guidance=knobs.guidance, batch=knobs.batch_size, seed=knobs.seed, least=knobs.least,
        first_pitch=tokenizer.first_id["Pitch"], people=people, each=knobs.pairs, led=knobs.led,
        real=real_takes(shards["train"], tokenizer, bars=knobs.bars, tracks=VOICES, context=config.context, seed=knobs.seed) if knobs.led else (),
    )  # fmt: skip
    looks = prompts_like(shards["valid"], tokenizer, count=knobs.looks, bars=knobs.bars, seed=knobs.seed, top_p=0.98)
    module = Aligning(
        reference, ValidPieces(shards["valid"], tokenizer, told=True), writer, rewards, looks, guidance=knobs.guidance,
        method=knobs.method, hold=Hold(knobs.beta, knobs.anchor, knobs.local, knobs.guided, knobs.sharp, worse=knobs.most_worse, fewer=knobs.most_fewer), matrix_rate=knobs.matrix_rate,
        learning_rate=knobs.learning_rate, warmup=knobs.warmup, max_steps=knobs.max_steps, clock=clock, anchor_rows=knobs.anchor_rows,
    )  # fmt: skip
    return module, rounds


def counted_of(tokenizer: CellTokenizer, preferences: list[Preference], rewards: Rewards) -> np.ndarray:
    """How much each comparison counts (models/preferences.py)."""
    jury = rewards.learned
    return weights_of(preferences, jury, tokenizer.ticks_per_quarter, tokenizer.velocity) if isinstance(jury, Jury) else np.zeros(len(preferences))


def people_pairs(tokenizer: CellTokenizer, preferences: list[Preference], counted: np.ndarray, context: int) -> "list[Pair]":
    """People's comparisons of two answers to one request, as pairs that are learned from directly, as far as the jury bears them out; others speak through the jury alone."""
    from models.rounds import Pair

    found = []
    for preference, weight in zip(preferences, counted.tolist(), strict=True):
        if preference.asked and weight > 0:
            try:
                request = requests_of(tokenizer, Composition(**json.loads(preference.asked)))[0]
                chosen, rejected = (take_of(tokenizer, request, score_of(midi, tokenizer.ticks_per_quarter, tokenizer.velocity), context) for midi in (preference.chosen, preference.rejected))
            except (ValueError, TypeError):
                continue  # of a model with another vocabulary
            found.append(Pair(chosen, rejected, weight))
    return found


def write_takes(takes: list[Take], totals: np.ndarray, rewards: Rewards) -> None:
    """What the model wrote before it learned, ranked: the preference data of its own."""
    from models.rounds import heard

    rows = [{"prompt": n // totals.shape[1], "take": n % totals.shape[1], "reward": float(totals.ravel()[n]), "parts": json.dumps({name: [round(x, 4) for x in both] for name, both in rewards.parts(heard(take)).items()}),
             "asked": _asked(take), "midi": to_midi(take.score)} for n, take in enumerate(takes)]  # fmt: skip
    write_parquet(OUT / "takes.parquet", rows, TAKES)


def _asked(take: Take) -> str:
    labels, given = take.request.labels, take.request.given
    return ", ".join(filter(None, (labels.style, labels.rhythm, labels.key, f"{labels.bars} bars", f"tracks {', '.join(str(k + 1) for k in given)} given" if given else "")))


def write_report(knobs: Align, takes: list[Take], totals: np.ndarray, rewards: Rewards, preferences: list[Preference], counted: np.ndarray, quarantined: dict[str, list[Preference]]) -> None:
    """Counts and examples of the preference data."""
    jury = rewards.learned
    best = [{"asked": _asked(takes[p * totals.shape[1]]), "best": round(float(mine.max()), 4), "worst": round(float(mine.min()), 4)} for p, mine in enumerate(totals[:SHOWN])]
    write_json(Path("reports/align_report.json"), {
        "method": knobs.method,
        "own": {"prompts": len(totals), "takes": len(takes), "mean_reward": round(float(totals.mean()), 4), "examples": best},
        "people": {"comparisons": len(preferences), "users": len({p.user for p in preferences}), "by": dict(Counter(p.by for p in preferences)),
                   "mean_weight": round(float(counted.mean()), 4) if len(counted) else 0.0,
                   "most_one_user_moves": round(jury.bound(1) * knobs.people, 4) if isinstance(jury, Jury) else round(knobs.people, 4)},
        "quarantined": {why: {"rows": len(rows), "examples": [{"user": p.user, "time": p.time, "chosen": p.chosen_id, "rejected": p.rejected_id} for p in rows[:SHOWN]]} for why, rows in quarantined.items()},
    })  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
