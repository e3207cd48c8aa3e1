"""Networks aligned anew: by a simulated judge, by a hacked reward, by other methods."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.align_bench import SEED, Setting, best_takes, named_right, rates, summed
from models.align.parts import Heard
from models.align.preferences import Preference, guarded, seat, weights_of
from models.align.report import compare, interval
from models.align.rewards import Rewards
from models.align.rollouts import Take, several_takes
from models.align.rounds import Pair, distinct, heard
from models.judge.evaluation import labellers, melodies_of
from models.judge.ngram import NgramModel, best_order
from monitoring.wins import Duel
from music.analysis.descriptors import describe
from music.analysis.similarity import RunIndex
from music.score.form import to_midi
from pipelines.release.gate import alignment_floors


def methods(setting: Setting, count: int, steps: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """RLOO and DPO with as many steps each, RLOO with four times as many, and the best of n takes of the
    network as it was, which costs n times at every answer instead."""
    s, trees = setting, setting.trees()
    prompts = s.prompts(count)
    plain = s.writer.write(s.before, prompts)
    base, before = s.reward(plain), s.nats(s.before)

    def row(name: str, spent_s: float, cost: int, takes: Sequence[Take], nats: float) -> dict[str, Any]:
        mine, voices = s.reward(takes), summed(takes)
        assert voices is not None
        low, high = interval(mine - base, SEED)
        folk = [heard(take) for take in takes if take.request.labels.style != "chorale"]
        found = {
            "method": name,
            "minutes": round(spent_s / 60, 1),
            "takes an answer": cost,
            "reward": f"{mine.mean():.3f}",
            "gain, 95 %": f"{low:+.3f} to {high:+.3f}",
            "folk style named as asked, %": f"{named_right(trees, folk):.1f}",
            "fifths": f"{rates(voices)['fifths']:.1f}",
            "octaves": f"{rates(voices)['octaves']:.1f}",
            "distinct": f"{distinct(takes):.3f}",
            "nats per note": f"{nats:.4f}",
        }
        print(found, flush=True)
        return found

    rows = [row("none", 0, 1, plain, before)]
    for n in (2, 4, 8):
        rows.append(row(f"best of {n}", 0, n, best_takes(s, s.before, prompts, n), before))
    changes: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("dpo", 1, {"method": "dpo", "prompts": 160, "rounds": 1}),
        ("rloo", 1, {}),
        ("rloo", 4, {}),
    )
    for name, times, changed in changes:
        weights, seconds = s.align(round(times * steps), s.rewards, **changed)
        rows.append(row(name, seconds, 1, s.writer.write(weights, prompts), s.nats(weights)))
    return rows, {}


def taste(take: Take) -> float:
    """The simulated judge's: steps rather than leaps, long notes rather than short."""
    values = describe(take.score)
    return 4 * values["stepwise_motion"] + 2 * values["mean_note_length"]


def comparisons(
    setting: Setting,
    prefers: Callable[[Take, Take, np.random.Generator], bool],
    users: int,
    each: int,
    seed: int,
) -> tuple[list[Preference], list[Pair]]:
    """What `users` simulated people said of pairs of takes for train prompts, one every minute; and the same
    as pairs of takes."""
    s, random = setting, np.random.default_rng(seed)
    takes = s.writer.write(s.before, several_takes(s.prompts(users * each, "train", seed), 2))
    begin, found, pairs = datetime(2026, 1, 1, tzinfo=timezone.utc), list[Preference](), list[Pair]()
    for n in range(users * each):
        pair = takes[2 * n : 2 * n + 2]
        chosen = int(not prefers(pair[0], pair[1], random))
        pairs.append(Pair(pair[chosen], pair[1 - chosen]))
        midi = [base64.b64encode(to_midi(take.score)).decode() for take in pair]
        found.append(
            Preference(
                f"sim-{n % users}",
                (begin + timedelta(minutes=n)).isoformat(timespec="milliseconds"),
                f"{n}-{chosen}",
                f"{n}-{1 - chosen}",
                midi[chosen],
                midi[1 - chosen],
                ("first", "second")[chosen],
            )
        )
    return found, pairs


def judge(
    setting: Setting, count: int, steps: int, users: int = 40, each: int = 20, times: int = 2
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Win rates of the aligned network by a SIMULATED judge's taste: against the fine-tuned one, and against
    one aligned by the rules alone; for a judge who tells by the taste, and one who tosses a coin.

    Two trainings of one kind differ by some points, so those that should come out alike are done `times`
    times, with other prompts and other coins."""
    s, rows, targets = setting, list[dict[str, Any]](), {}
    prompts = s.prompts(count)
    plain = s.writer.write(s.before, prompts)
    alone: list[list[Take]] = []
    judges: tuple[tuple[str, Callable[..., bool] | None, int], ...] = (
        ("nobody", None, times),
        ("a taste", lambda a, b, random: taste(a) + random.logistic(0, 0.3) > taste(b), 1),
        ("a coin", lambda a, b, random: random.random() < 0.5, times),
    )
    for name, prefers, repeats in judges:
        made, told = list[list[Take]](), list[dict[str, float]]()
        for k in range(repeats):
            rewards, learned = s.rewards, list[Pair]()
            if prefers is not None:
                rewards, learned, found = listened(s, *comparisons(s, prefers, users, each, SEED + k), plain)
                told.append(found)
            aligned, _ = s.align(steps, rewards, learned, seed=s.params.align.seed + k)
            made.append(s.writer.write(aligned, prompts))
            print(name, k, duel(made[-1:], [plain]), told[-1:], flush=True)
        alone = alone or made
        singles = [duel([mine], [plain]).rate for mine in made]
        moved = (
            np.mean([taste(take) for mine in made for take in mine])
            - np.mean([taste(take) for take in plain])
        ) / np.std([taste(take) for take in plain])
        rows.append(
            {
                "SIMULATED judge": name,
                "trainings": repeats,
                "comparisons": users * each if told else 0,
                **{what: f"{np.mean([row[what] for row in told]):.2f}" for what in (told[0] if told else ())},
                "prompts": len(prompts),
                "preferred to the fine-tuned": shown(duel(made, [plain] * repeats)),
                "in single trainings": ", ".join(f"{rate:.1%}" for rate in singles),
                "preferred to one aligned by the rules alone": shown(duel(made, alone[:repeats]))
                if told
                else "",
                "taste moved by, standard deviations": f"{moved:+.2f}",
                "rules' reward": (
                    f"{np.mean([s.reward(mine).mean() for mine in made]):.3f} (before "
                    f"{s.reward(plain).mean():.3f})"
                ),
            }
        )
        print(rows[-1], flush=True)
        if name == "a taste":
            targets["judge_with_taste_win_rate"] = report.target(duel(made, [plain]).rate, ">=", 0.65)
        if name == "a coin":
            targets["judge_with_coin_from_half_beside_rules_alone"] = report.target(
                abs(duel(made, alone).rate - 0.5), "<=", 0.05
            )
            targets["judge_with_coin_from_half_beside_fine_tuned"] = report.target(
                abs(duel(made, [plain] * repeats).rate - 0.5), "<=", 0.05
            )
    return rows, targets


def listened(
    setting: Setting, said: list[Preference], pairs: list[Pair], plain: Sequence[Take]
) -> tuple[Rewards, list[Pair], dict[str, float]]:
    """Rewards with a jury of what was said, the pairs as they count, and how the jury speaks of plain
    takes."""
    s = setting
    kept, _ = guarded(said)
    assert len(kept) == len(pairs), "a simulated judge is no script"
    jury = seat(kept, [h.score for h in s.real], s.tokenizer.ticks_per_quarter, s.tokenizer.velocity)
    weights = weights_of(kept, jury, s.tokenizer.ticks_per_quarter, s.tokenizer.velocity)
    verdicts = jury.verdicts([take.score for take in plain])
    agreed = float(np.corrcoef(verdicts, [taste(take) for take in plain])[0, 1]) if verdicts.std() else 0.0
    found = {
        "mean weight of a comparison": float(weights.mean()),
        "spread of the jury's verdicts": float(verdicts.std()),
        "jury agrees with the taste (correlation)": agreed,
    }
    return (
        replace(s.rewards, learned=jury, learned_share=s.params.align.people),
        [
            replace(pair, weight=float(weight))
            for pair, weight in zip(pairs, weights, strict=True)
            if weight > 0
        ],
        found,
    )


def duel(ours: Sequence[Sequence[Take]], others: Sequence[Sequence[Take]]) -> Duel:
    """Answers to the same prompts, compared by the taste."""
    ahead = [
        taste(a) - taste(b)
        for mine, theirs in zip(ours, others, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    ]
    return Duel(
        "aligned", "other", sum(x > 0 for x in ahead), sum(x < 0 for x in ahead), sum(x == 0 for x in ahead)
    )


def shown(found: Duel) -> str:
    low, high = found.interval
    return f"{found.rate:.1%} ({low:.1%} to {high:.1%})"


def repeated(heard: Heard) -> float:
    """What the hacked candidate is paid for."""
    return heard.descriptors["bar_repetition"]


def hacked(setting: Setting, count: int, steps: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A candidate that learned a reward with no end to it, the share of bars heard before, unheld; and what
    the gate says of it."""
    s = setting
    weights, _ = s.align(
        steps,
        replace(s.rewards, learned=repeated, learned_share=1.0),
        beta=0.0,
        anchor=0.0,
        local=0.0,
        guided=0.0,
        learning_rate=0.0006,
    )
    prompts, test = s.prompts(count), s.shards["test"]
    lines, owners = melodies_of(s.shards["train"], s.tokenizer)
    every = {
        split: [s.shards[split].piece(i) for i in range(len(s.shards[split]))] for split in ("train", "valid")
    }
    ngram: NgramModel = best_order(
        every["train"], every["valid"], len(s.tokenizer), s.params.evaluate.ngram_orders
    )[0]
    judges, _ = labellers(s.shards["train"], test, s.tokenizer, s.params.align.bars)
    before, after = s.writer.write(s.before, prompts), s.writer.write(weights, prompts)
    found = compare(
        before, after, s.real, s.rewards, ngram, s.tokenizer, judges, RunIndex(lines, owners), SEED
    )
    found["nats_per_note"] = {"ratio": s.nats(weights) / s.nats(s.before)}
    won = {
        name: float(np.mean([repeated(heard(take)) for take in takes]))
        for name, takes in (("before", before), ("after", after))
    }
    checks = alignment_floors(found, s.params.gate)
    rows = [
        {
            "what": "the reward it learned: bars heard before",
            **{name: round(value, 4) for name, value in won.items()},
        },
        {"what": "distinct 4-grams", **found["distinct"]},
        {"what": "descriptor overlap", **found["overlap"]},
    ]
    rows += [
        {
            "what": f"gate: {check.name}",
            "after": f"{check.value:.4f} {check.op} {check.threshold:g}",
            "verdict": "pass" if check.passed else "FAIL",
        }
        for check in checks
    ]
    return rows, {
        "reward_won": report.target(won["after"] - won["before"], ">=", 0),
        "distinct_lost": report.target(found["distinct"]["before"] - found["distinct"]["after"], ">=", 0),
        "gate_refuses": report.target(float(not all(check.passed for check in checks)), ">=", 1),
    }
