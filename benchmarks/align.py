"""What alignment is worth. `python -m benchmarks.align` measures data/align against data/finetune on held-out
prompts; `--part methods`, `judge` and `hacked` train networks of their own from data/finetune, some steps
each, and measure the same.

methods: RLOO, DPO and the best of n takes. judge: a SIMULATED judge with a known taste speaks through
comparisons; does the loop find the taste? hacked: the more bars are repeated the better, and nothing that
holds; does the gate see what it cost?
"""

import argparse
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.align_bench import (
    ALIGNED,
    DRAFTS,
    SEED,
    SHORT,
    Setting,
    added,
    best_takes,
    freely,
    named_right,
    rates,
    summed,
)
from benchmarks.align_people import hacked, judge, methods
from models.align.parts import Heard
from models.align.report import interval
from models.align.rounds import distinct, heard
from models.tokens.shards import opening
from pipelines.running.training_run import load_weights


def table(setting: Setting, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Before and after on test prompts: rewards by part for folk and chorales, voice leading, style by a
    judge of another kind, and what must not fall."""
    s = setting
    after, trees = load_weights(ALIGNED)[1], s.trees()
    folk = [style for style in s.tokenizer.styles if style != "chorale"]
    rows: list[dict[str, Any]] = []
    targets: dict[str, Any] = {}
    for what, styles in (("folk", folk), ("chorales", ["chorale"])):
        prompts = s.prompts(count, styles=styles)
        takes = {
            name: s.writer.write(weights, prompts)
            for name, weights in (("before", s.before), ("after", after))
        }
        real = [h for h in s.real if h.labels.style in styles]
        scored = {name: [s.rewards.parts(heard(take)) for take in mine] for name, mine in takes.items()} | {
            "real": [s.rewards.parts(h) for h in real]
        }
        totals = {name: s.reward(mine) for name, mine in takes.items()}
        low, high = interval(totals["after"] - totals["before"], SEED)
        rows.append(
            {
                "of": what,
                "what": "reward",
                "unit": "0 to 1",
                "real": f"{np.mean([s.rewards.total(h) for h in real]):.3f}",
                **{name: f"{mine.mean():.3f}" for name, mine in totals.items()},
                "change of worth, 95 %": f"{low:+.3f} to {high:+.3f}",
            }
        )
        for part in (
            "style",
            "key",
            "metre",
            "ending",
            "close",
            "chords",
            "sections",
            "controls",
            "repetition",
            "form",
            "rhythm",
            "pitch",
            "steps",
            "originality",
        ):
            values = {
                name: np.array([row[part] for row in some if part in row]) for name, some in scored.items()
            }
            if len(values["before"]) and len(values["before"]) == len(values["after"]):
                low, high = interval(values["after"][:, 1] - values["before"][:, 1], SEED)
                rows.append(
                    {
                        "of": what,
                        "what": part,
                        **{
                            name: f"{mine[:, 0].mean():.3f}" if len(mine) else ""
                            for name, mine in values.items()
                        },
                        "change of worth, 95 %": f"{low:+.3f} to {high:+.3f}",
                    }
                )
        named = {
            name: named_right(trees, side)
            for name, side in (
                ("real", real),
                *((name, [heard(t) for t in mine]) for name, mine in takes.items()),
            )
        }
        rows.append(
            {
                "of": what,
                "what": "style named as asked by boosted trees",
                "unit": "%",
                **{name: f"{value:.1f}" for name, value in named.items()},
            }
        )
        rows.append(
            {
                "of": what,
                "what": "distinct 4-grams of intervals",
                "unit": "share",
                **{name: f"{distinct(mine):.3f}" for name, mine in takes.items()},
            }
        )
        if what == "folk":
            targets["folk_style_points_or_ceiling"] = report.target(
                max(named["after"] - named["before"], 15.0 * (named["after"] >= named["real"])), ">=", 15
            )
            chosen = {
                name: best_takes(s, weights, prompts, DRAFTS)
                for name, weights in (("before", s.before), ("after", after))
            }
            of = f"folk, best of {DRAFTS} drafts"
            rows.append(
                {
                    "of": of,
                    "what": "reward",
                    "unit": "0 to 1",
                    **{name: f"{s.reward(mine).mean():.3f}" for name, mine in chosen.items()},
                }
            )
            picked = {name: named_right(trees, [heard(t) for t in mine]) for name, mine in chosen.items()}
            rows.append(
                {
                    "of": of,
                    "what": "style named as asked by boosted trees",
                    "unit": "%",
                    "real": f"{named['real']:.1f}",
                    **{name: f"{value:.1f}" for name, value in picked.items()},
                }
            )
            rows.append(
                {
                    "of": of,
                    "what": "distinct 4-grams of intervals",
                    "unit": "share",
                    **{name: f"{distinct(mine):.3f}" for name, mine in chosen.items()},
                }
            )
            targets["folk_style_points_with_best_of_4"] = report.target(
                max(picked["after"] - named["before"], 15.0 * (picked["after"] >= named["real"])), ">=", 15
            )
            continue
        free = {
            name: s.writer.write(weights, freely(prompts))
            for name, weights in (("before", s.before), ("after", after))
        }
        totals = {name: s.reward(mine) for name, mine in free.items()}
        rows.append(
            {
                "of": "chorales, by the network alone",
                "what": "reward",
                "unit": "0 to 1",
                "real": f"{np.mean([s.rewards.total(h) for h in real]):.3f}",
                **{name: f"{mine.mean():.3f}" for name, mine in totals.items()},
            }
        )
        for task, given, written in (
            ("composed", False, takes),
            ("melody given", True, takes),
            ("composed, by the network alone", False, free),
            ("melody given, by the network alone", True, free),
        ):
            both = {
                name: summed([t for t in mine if bool(t.request.given) == given])
                for name, mine in written.items()
            }
            bach = added(
                [
                    Heard(opening(shard, s.tokenizer, i, s.params.align.bars), shard.labels(i)).voices
                    for shard in s.shards.values()
                    for i in range(len(shard))
                    if shard.records[i]["style"] == "chorale"
                ]
            )
            for name in ("fifths", "octaves", "crossings", "compass"):
                told = {
                    side: rates(voices)[name]
                    for side, voices in {"real": bach, **both}.items()
                    if voices is not None
                }
                rows.append(
                    {
                        "of": f"chorales, {task}",
                        "what": name,
                        "unit": "per 1,000 moves" if name in ("fifths", "octaves") else "per 1,000",
                        **{side: f"{value:.1f}" for side, value in told.items()},
                    }
                )
                if name in ("fifths", "octaves"):
                    targets[f"{name}_{task.replace(', ', '_').replace(' ', '_')}_over_real"] = report.target(
                        told["after"] / max(told["real"], 1e-9), "<=", 1.5
                    )
    nats = {"before": s.nats(s.before), "after": s.nats(after)}
    rows.append(
        {
            "of": "test split",
            "what": "nats per note",
            **{name: f"{value:.4f}" for name, value in nats.items()},
        }
    )
    targets["nats_ratio"] = report.target(nats["after"] / nats["before"], "<=", 1.02)
    return rows, targets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("table", "methods", "judge", "hacked"), default="table")
    parser.add_argument("--count", type=int, default=240, help="prompts, of each kind")
    parser.add_argument("--steps", type=int, default=96, help="of each training")
    options = parser.parse_args()
    setting = Setting()
    if options.part == "table":
        rows, targets = table(setting, options.count)
        report.write("align", rows, targets)
        return report.write("align_short", [row for row in rows if row["what"] in SHORT], {}, by="align")
    made = {"methods": methods, "judge": judge, "hacked": hacked}[options.part](
        setting, options.count, options.steps
    )
    report.write(f"align_{options.part}", *made, by=f"align --part {options.part}")


if __name__ == "__main__":
    main()
