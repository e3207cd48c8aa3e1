"""What alignment is worth. `python -m benchmarks.align` measures data/align against data/finetune on held-out prompts; `--part methods`, `judge` and
`hacked` train networks of their own from data/finetune, some minutes each, and measure the same.

methods: RLOO, DPO and the best of n takes. judge: a SIMULATED judge with a known taste speaks through comparisons; does the loop find the taste?
hacked: the more bars are repeated the better, and nothing that holds; does the gate see what it cost?
"""

import argparse
import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from benchmarks import report
from benchmarks.edit_music import TreeJudge
from models.alignment import compare, interval
from models.choosing import best, drafts
from models.evaluation import labellers, melodies_of
from models.fill import FillRequest
from models.network import Network
from models.ngram import NgramModel, best_order
from models.preferences import Preference, guarded, seat, weights_of
from models.rewards import Heard, Rewards
from models.rollouts import Take, Writer, opening, prompts_like, several_takes
from models.rounds import Pair, distinct, heard
from models.scoring import nats_per_note, piece_nats
from models.shards import Shard
from models.tokens import load_tokenizer
from models.training import Clock, best_precision
from monitoring.wins import Duel
from music.descriptors import describe
from music.score import to_midi
from music.similarity import RunIndex
from music.voices import VoiceLeading
from pipelines.align import parts, rewards_of
from pipelines.gate import alignment_floors
from pipelines.params import Align, load_params
from pipelines.training import TOKENS, load_weights

FINETUNED, ALIGNED, SEED, DRAFTS = Path("data/finetune"), Path("data/align"), 23, 4
SHORT = ("reward", "style named as asked by boosted trees", "cadence", "key", "fifths", "octaves", "distinct 4-grams of intervals", "nats per note")  # in the README
Weights = dict[str, Any]


class Setting:
    """Everything the parts share, loaded once."""

    def __init__(self) -> None:
        self.params = load_params()
        self.tokenizer = load_tokenizer(TOKENS / "tokenizer.json")
        self.shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
        self.config, self.before = load_weights(FINETUNED)
        self.writer = Writer(self.tokenizer, self.config)
        self.rewards = rewards_of(self.tokenizer, self.shards, self.params.align, [])
        test = self.shards["test"]
        self.real = [Heard(opening(test, self.tokenizer, i, self.params.align.bars), test.labels(i)) for i in range(len(test))]

    def trees(self) -> TreeJudge:
        """A judge of style of another kind than the one that rewards."""
        train = self.shards["train"]
        labelled = [i for i, record in enumerate(train.records) if record["style"]]
        return TreeJudge([opening(train, self.tokenizer, i, self.params.align.bars) for i in labelled], [train.records[i]["style"] for i in labelled])

    def prompts(self, count: int, split: str = "test", seed: int = SEED, styles: Sequence[str] = ()) -> list[FillRequest]:
        """Requests as they are served; `styles`: only of these."""
        found: list[FillRequest] = []
        while len(found) < count:
            more = prompts_like(self.shards[split], self.tokenizer, count=count, bars=self.params.align.bars, seed=seed, top_p=0.98)
            found += [request for request in more if not styles or request.labels.style in styles]
            seed += 1
        return found[:count]

    def nats(self, weights: Weights) -> float:
        """Nats per note of the test split, nothing asked."""
        test, network = self.shards["test"], Network(self.config)
        network.load_state_dict(weights)
        return nats_per_note(piece_nats(network, self.tokenizer, [(test.piece(i), test.bar_starts(i)) for i in range(len(test))]), [int(r["notes"]) for r in test.records])

    def align(self, minutes: float, rewards: Rewards, people: Sequence[Pair] = (), **changed: Any) -> tuple[Weights, float]:
        """Weights aligned from data/finetune with some knobs changed, the last ones, and the seconds it took."""
        knobs = Align.model_validate({**self.params.align.model_dump(), "time_budget_min": minutes, **changed})
        clock, begin = Clock(minutes * 60), time.monotonic()
        module, rounds = parts(knobs, self.config, self.before, self.tokenizer, self.shards, rewards, list(people), clock)
        precision = best_precision() if knobs.precision == "auto" else knobs.precision
        trainer = pl.Trainer(accelerator="cpu", max_epochs=-1, max_steps=knobs.max_steps, precision=precision, gradient_clip_val=knobs.gradient_clip, reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0,
                             limit_val_batches=0, enable_model_summary=False, enable_progress_bar=False, logger=False, enable_checkpointing=False, callbacks=[clock])  # fmt: skip
        trainer.fit(module, rounds)
        return {name: value.detach() for name, value in module.network.state_dict().items()}, time.monotonic() - begin

    def reward(self, takes: Sequence[Take]) -> np.ndarray:
        return np.array([self.rewards.total(heard(take)) for take in takes])


def named_right(trees: TreeJudge, some: Sequence[Heard]) -> float:
    """Percentage of pieces whose style the trees name as it was asked."""
    return 100 * float(np.mean([a == b for a, b in zip(trees.name([h.score for h in some]), [h.labels.style for h in some], strict=True)]))


def freely(prompts: Sequence[FillRequest]) -> list[FillRequest]:
    """The same by the network alone, without the rule that keeps chorales from parallels (models/leading.py)."""
    return [replace(request, locks=replace(request.locks, voice_leading=False)) for request in prompts]


def summed(takes: Sequence[Take]) -> VoiceLeading | None:
    """Voice leading of all four-part takes together."""
    return added([heard(take).voices for take in takes])


def added(counts: Sequence[VoiceLeading | None]) -> VoiceLeading | None:
    """The sum of those that are there."""
    found = [voices for voices in counts if voices is not None]
    return reduce(add, found) if found else None


def rates(voices: VoiceLeading) -> dict[str, float]:
    return {"fifths": 1000 * voices.parallel_fifths / voices.moves, "octaves": 1000 * voices.parallel_octaves / voices.moves, "crossings": 1000 * voices.crossings / voices.steps, "compass": 1000 * voices.out_of_compass / voices.notes}


def table(setting: Setting, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Before and after on test prompts: rewards by part for folk and chorales, voice leading, style by a judge of another kind, and what must not fall."""
    s = setting
    after, trees = load_weights(ALIGNED)[1], s.trees()
    folk = [style for style in s.tokenizer.styles if style != "chorale"]
    rows: list[dict[str, Any]] = []
    targets: dict[str, Any] = {}
    for what, styles in (("folk", folk), ("chorales", ["chorale"])):
        prompts = s.prompts(count, styles=styles)
        takes = {name: s.writer.write(weights, prompts) for name, weights in (("before", s.before), ("after", after))}
        real = [h for h in s.real if h.labels.style in styles]
        scored = {name: [s.rewards.parts(heard(take)) for take in mine] for name, mine in takes.items()} | {"real": [s.rewards.parts(h) for h in real]}
        totals = {name: s.reward(mine) for name, mine in takes.items()}
        low, high = interval(totals["after"] - totals["before"], SEED)
        rows.append({"of": what, "what": "reward", "unit": "0 to 1", "real": f"{np.mean([s.rewards.total(h) for h in real]):.3f}", **{name: f"{mine.mean():.3f}" for name, mine in totals.items()}, "change of worth, 95 %": f"{low:+.3f} to {high:+.3f}"})
        for part in ("style", "key", "metre", "cadence", "controls", "repetition", "form", "rhythm", "pitch", "steps", "originality"):
            values = {name: np.array([row[part] for row in some if part in row]) for name, some in scored.items()}
            if len(values["before"]) and len(values["before"]) == len(values["after"]):
                low, high = interval(values["after"][:, 1] - values["before"][:, 1], SEED)
                rows.append({"of": what, "what": part, **{name: f"{mine[:, 0].mean():.3f}" if len(mine) else "" for name, mine in values.items()}, "change of worth, 95 %": f"{low:+.3f} to {high:+.3f}"})
        named = {name: named_right(trees, side) for name, side in (("real", real), *((name, [heard(t) for t in mine]) for name, mine in takes.items()))}
        rows.append({"of": what, "what": "style named as asked by boosted trees", "unit": "%", **{name: f"{value:.1f}" for name, value in named.items()}})
        rows.append({"of": what, "what": "distinct 4-grams of intervals", "unit": "share", **{name: f"{distinct(mine):.3f}" for name, mine in takes.items()}})
        if what == "folk":
            targets["folk_style_points_or_ceiling"] = report.target(max(named["after"] - named["before"], 15.0 * (named["after"] >= named["real"])), ">=", 15)
            chosen = {name: best_takes(s, weights, prompts, DRAFTS) for name, weights in (("before", s.before), ("after", after))}
            of = f"folk, best of {DRAFTS} drafts"
            rows.append({"of": of, "what": "reward", "unit": "0 to 1", **{name: f"{s.reward(mine).mean():.3f}" for name, mine in chosen.items()}})
            picked = {name: named_right(trees, [heard(t) for t in mine]) for name, mine in chosen.items()}
            rows.append({"of": of, "what": "style named as asked by boosted trees", "unit": "%", "real": f"{named['real']:.1f}", **{name: f"{value:.1f}" for name, value in picked.items()}})
            rows.append({"of": of, "what": "distinct 4-grams of intervals", "unit": "share", **{name: f"{distinct(mine):.3f}" for name, mine in chosen.items()}})
            targets["folk_style_points_with_best_of_4"] = report.target(max(picked["after"] - named["before"], 15.0 * (picked["after"] >= named["real"])), ">=", 15)
            continue
        free = {name: s.writer.write(weights, freely(prompts)) for name, weights in (("before", s.before), ("after", after))}
        totals = {name: s.reward(mine) for name, mine in free.items()}
        rows.append({"of": "chorales, by the network alone", "what": "reward", "unit": "0 to 1", "real": f"{np.mean([s.rewards.total(h) for h in real]):.3f}", **{name: f"{mine.mean():.3f}" for name, mine in totals.items()}})
        for task, given, written in (("composed", False, takes), ("melody given", True, takes), ("composed, by the network alone", False, free), ("melody given, by the network alone", True, free)):
            both = {name: summed([t for t in mine if bool(t.request.given) == given]) for name, mine in written.items()}
            bach = added([Heard(opening(shard, s.tokenizer, i, s.params.align.bars), shard.labels(i)).voices for shard in s.shards.values() for i in range(len(shard)) if shard.records[i]["style"] == "chorale"])
            for name in ("fifths", "octaves", "crossings", "compass"):
                told = {side: rates(voices)[name] for side, voices in {"real": bach, **both}.items() if voices is not None}
                rows.append({"of": f"chorales, {task}", "what": name, "unit": "per 1,000 moves" if name in ("fifths", "octaves") else "per 1,000", **{side: f"{value:.1f}" for side, value in told.items()}})
                if name in ("fifths", "octaves"):
                    targets[f"{name}_{task.replace(', ', '_').replace(' ', '_')}_over_real"] = report.target(told["after"] / max(told["real"], 1e-9), "<=", 1.5)
    nats = {"before": s.nats(s.before), "after": s.nats(after)}
    rows.append({"of": "test split", "what": "nats per note", **{name: f"{value:.4f}" for name, value in nats.items()}})
    targets["nats_ratio"] = report.target(nats["after"] / nats["before"], "<=", 1.02)
    return rows, targets


def best_takes(setting: Setting, weights: Weights, prompts: Sequence[FillRequest], count: int) -> list[Take]:
    """The best of `count` drafts of each prompt, as `best_of` of /v1/compose gives it, but by judges that the trees do not know."""
    asked = drafts(prompts, count)
    takes = setting.writer.write(weights, asked)
    return [takes[i] for i in best(asked, [take.score for take in takes], count, setting.rewards)]


def methods(setting: Setting, count: int, minutes: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """RLOO and DPO with as many minutes each, RLOO with four times as many, and the best of n takes of the network as it was, which costs n times at every answer instead."""
    s, trees = setting, setting.trees()
    prompts = s.prompts(count)
    plain = s.writer.write(s.before, prompts)
    base, before = s.reward(plain), s.nats(s.before)

    def row(name: str, spent_s: float, cost: int, takes: Sequence[Take], nats: float) -> dict[str, Any]:
        mine, voices = s.reward(takes), summed(takes)
        assert voices is not None
        low, high = interval(mine - base, SEED)
        folk = [heard(take) for take in takes if take.request.labels.style != "chorale"]
        found = {"method": name, "minutes": round(spent_s / 60, 1), "takes an answer": cost, "reward": f"{mine.mean():.3f}", "gain, 95 %": f"{low:+.3f} to {high:+.3f}", "folk style named as asked, %": f"{named_right(trees, folk):.1f}",
                 "fifths": f"{rates(voices)['fifths']:.1f}", "octaves": f"{rates(voices)['octaves']:.1f}", "distinct": f"{distinct(takes):.3f}", "nats per note": f"{nats:.4f}"}  # fmt: skip
        print(found, flush=True)
        return found

    rows = [row("none", 0, 1, plain, before)]
    for n in (2, 4, 8):
        rows.append(row(f"best of {n}", 0, n, best_takes(s, s.before, prompts, n), before))
    changes: tuple[tuple[str, float, dict[str, Any]], ...] = (("dpo", 1, {"method": "dpo", "prompts": 160, "rounds": 1}), ("rloo", 1, {}), ("rloo", 4, {}))
    for name, times, changed in changes:
        weights, seconds = s.align(times * minutes, s.rewards, **changed)
        rows.append(row(name, seconds, 1, s.writer.write(weights, prompts), s.nats(weights)))
    return rows, {}


def taste(take: Take) -> float:
    """The simulated judge's: steps rather than leaps, long notes rather than short."""
    values = describe(take.score)
    return 4 * values["stepwise_motion"] + 2 * values["mean_note_length"]


def comparisons(setting: Setting, prefers: Callable[[Take, Take, np.random.Generator], bool], users: int, each: int, seed: int) -> tuple[list[Preference], list[Pair]]:
    """What `users` simulated people said of pairs of takes for train prompts, one every minute; and the same as pairs of takes."""
    s, random = setting, np.random.default_rng(seed)
    takes = s.writer.write(s.before, several_takes(s.prompts(users * each, "train", seed), 2))
    begin, found, pairs = datetime(2026, 1, 1, tzinfo=timezone.utc), list[Preference](), list[Pair]()
    for n in range(users * each):
        pair = takes[2 * n : 2 * n + 2]
        chosen = int(not prefers(pair[0], pair[1], random))
        pairs.append(Pair(pair[chosen], pair[1 - chosen]))
        midi = [base64.b64encode(to_midi(take.score)).decode() for take in pair]
        found.append(Preference(f"sim-{n % users}", (begin + timedelta(minutes=n)).isoformat(timespec="milliseconds"), f"{n}-{chosen}", f"{n}-{1 - chosen}", midi[chosen], midi[1 - chosen], ("first", "second")[chosen]))
    return found, pairs


def judge(setting: Setting, count: int, minutes: float, users: int = 40, each: int = 20, times: int = 2) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Win rates of the aligned network by a SIMULATED judge's taste: against the fine-tuned one, and against one aligned by the rules alone; for a judge who tells by the taste, and one who tosses a coin.

    Two trainings of one kind differ by some points, so those that should come out alike are done `times` times, with other prompts and other coins."""
    s, rows, targets = setting, list[dict[str, Any]](), {}
    prompts = s.prompts(count)
    plain = s.writer.write(s.before, prompts)
    alone: list[list[Take]] = []
    judges: tuple[tuple[str, Callable[..., bool] | None, int], ...] = (("nobody", None, times), ("a taste", lambda a, b, random: taste(a) + random.logistic(0, 0.3) > taste(b), 1), ("a coin", lambda a, b, random: random.random() < 0.5, times))
    for name, prefers, repeats in judges:
        made, told = list[list[Take]](), list[dict[str, float]]()
        for k in range(repeats):
            rewards, learned = s.rewards, list[Pair]()
            if prefers is not None:
                rewards, learned, found = listened(s, *comparisons(s, prefers, users, each, SEED + k), plain)
                told.append(found)
            aligned, _ = s.align(minutes, rewards, learned, seed=s.params.align.seed + k)
            made.append(s.writer.write(aligned, prompts))
            print(name, k, duel(made[-1:], [plain]), told[-1:], flush=True)
        alone = alone or made
        singles = [duel([mine], [plain]).rate for mine in made]
        moved = (np.mean([taste(take) for mine in made for take in mine]) - np.mean([taste(take) for take in plain])) / np.std([taste(take) for take in plain])
        rows.append({"SIMULATED judge": name, "trainings": repeats, "comparisons": users * each if told else 0, **{what: f"{np.mean([row[what] for row in told]):.2f}" for what in (told[0] if told else ())}, "prompts": len(prompts),
                     "preferred to the fine-tuned": shown(duel(made, [plain] * repeats)), "in single trainings": ", ".join(f"{rate:.1%}" for rate in singles), "preferred to one aligned by the rules alone": shown(duel(made, alone[:repeats])) if told else "",
                     "taste moved by, standard deviations": f"{moved:+.2f}", "rules' reward": f"{np.mean([s.reward(mine).mean() for mine in made]):.3f} (before {s.reward(plain).mean():.3f})"})  # fmt: skip
        print(rows[-1], flush=True)
        if name == "a taste":
            targets["judge_with_taste_win_rate"] = report.target(duel(made, [plain]).rate, ">=", 0.65)
        if name == "a coin":
            targets["judge_with_coin_from_half_beside_rules_alone"] = report.target(abs(duel(made, alone).rate - 0.5), "<=", 0.05)
            targets["judge_with_coin_from_half_beside_fine_tuned"] = report.target(abs(duel(made, [plain] * repeats).rate - 0.5), "<=", 0.05)
    return rows, targets


def listened(setting: Setting, said: list[Preference], pairs: list[Pair], plain: Sequence[Take]) -> tuple[Rewards, list[Pair], dict[str, float]]:
    """Rewards with a jury of what was said, the pairs as they count, and how the jury speaks of plain takes."""
    s = setting
    kept, _ = guarded(said)
    assert len(kept) == len(pairs), "a simulated judge is no script"
    jury = seat(kept, [h.score for h in s.real], s.tokenizer.ticks_per_quarter, s.tokenizer.velocity)
    weights = weights_of(kept, jury, s.tokenizer.ticks_per_quarter, s.tokenizer.velocity)
    verdicts = jury.verdicts([take.score for take in plain])
    agreed = float(np.corrcoef(verdicts, [taste(take) for take in plain])[0, 1]) if verdicts.std() else 0.0
    found = {"mean weight of a comparison": float(weights.mean()), "spread of the jury's verdicts": float(verdicts.std()), "jury agrees with the taste (correlation)": agreed}
    return replace(s.rewards, learned=jury, learned_share=s.params.align.people), [replace(pair, weight=float(weight)) for pair, weight in zip(pairs, weights, strict=True) if weight > 0], found


def duel(ours: Sequence[Sequence[Take]], others: Sequence[Sequence[Take]]) -> Duel:
    """Answers to the same prompts, compared by the taste."""
    ahead = [taste(a) - taste(b) for mine, theirs in zip(ours, others, strict=True) for a, b in zip(mine, theirs, strict=True)]
    return Duel("aligned", "other", sum(x > 0 for x in ahead), sum(x < 0 for x in ahead), sum(x == 0 for x in ahead))


def shown(found: Duel) -> str:
    low, high = found.interval
    return f"{found.rate:.1%} ({low:.1%} to {high:.1%})"


def repeated(heard: Heard) -> float:
    """What the hacked candidate is paid for."""
    return heard.descriptors["bar_repetition"]


def hacked(setting: Setting, count: int, minutes: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A candidate that learned a reward with no end to it, the share of bars heard before, unheld; and what the gate says of it."""
    s = setting
    weights, _ = s.align(minutes, replace(s.rewards, learned=repeated, learned_share=1.0), beta=0.0, anchor=0.0, local=0.0, guided=0.0, learning_rate=0.0006)
    prompts, test = s.prompts(count), s.shards["test"]
    lines, owners = melodies_of(s.shards["train"], s.tokenizer)
    every = {split: [s.shards[split].piece(i) for i in range(len(s.shards[split]))] for split in ("train", "valid")}
    ngram: NgramModel = best_order(every["train"], every["valid"], len(s.tokenizer), s.params.evaluate.ngram_orders)[0]
    judges, _ = labellers(s.shards["train"], test, s.tokenizer, s.params.align.bars)
    before, after = s.writer.write(s.before, prompts), s.writer.write(weights, prompts)
    found = compare(before, after, s.real, s.rewards, ngram, s.tokenizer, judges, RunIndex(lines, owners), SEED)
    found["nats_per_note"] = {"ratio": s.nats(weights) / s.nats(s.before)}
    won = {name: float(np.mean([repeated(heard(take)) for take in takes])) for name, takes in (("before", before), ("after", after))}
    checks = alignment_floors(found, s.params.gate)
    rows = [{"what": "the reward it learned: bars heard before", **{name: round(value, 4) for name, value in won.items()}}, {"what": "distinct 4-grams", **found["distinct"]}, {"what": "descriptor overlap", **found["overlap"]}]
    rows += [{"what": f"gate: {check.name}", "after": f"{check.value:.4f} {check.op} {check.threshold:g}", "verdict": "pass" if check.passed else "FAIL"} for check in checks]
    return rows, {"reward_won": report.target(won["after"] - won["before"], ">=", 0), "distinct_lost": report.target(found["distinct"]["before"] - found["distinct"]["after"], ">=", 0), "gate_refuses": report.target(float(not all(check.passed for check in checks)), ">=", 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("table", "methods", "judge", "hacked"), default="table")
    parser.add_argument("--count", type=int, default=240, help="prompts, of each kind")
    parser.add_argument("--minutes", type=float, default=2.5, help="of each training")
    options = parser.parse_args()
    setting = Setting()
    if options.part == "table":
        rows, targets = table(setting, options.count)
        report.write("align", rows, targets)
        return report.write("align_short", [row for row in rows if row["what"] in SHORT], {}, by="align")
    made = {"methods": methods, "judge": judge, "hacked": hacked}[options.part](setting, options.count, options.minutes)
    report.write(f"align_{options.part}", *made, by=f"align --part {options.part}")


if __name__ == "__main__":
    main()
