"""The model card, written from the figures of `evaluate` and the lineage of the data."""

from pathlib import Path
from typing import Any

USE = {
    "public-domain": "any use",
    "permissive": "any use, with the notices of the data",
    "share-alike": "what is built on it is shared under the same terms",
    "unstated": (
        "the tunes are public domain; the encodings state no licence: ask their makers before commercial use"
    ),
    "non-commercial": "research, teaching and private use; not for sale",
    "restricted": "nowhere without permission of the rights holders",
}


def alignment_section(table: dict[str, Any]) -> str:
    """What alignment changed, or nothing where there was none."""
    if not table:
        return ""
    rows = "\n".join(
        (
            f"| {name} | {row['real']:.3f} | {row['before']:.3f} | {row['after']:.3f} | {row['low']:+.3f} "
            f"to {row['high']:+.3f} |"
        )
        for name, row in table["parts"].items()
    )
    kept, reward, nats = table["kept_out"], table["reward"], table["nats_per_note"]
    return f"""### Alignment: {table["prompts"]} held-out prompts, before and after

| | real music | before | after | change of worth, 95 % |
|---|---|---|---|---|
| reward (0 to 1) | {reward["real"]:.3f} | {reward["before"]:.3f} | {reward["after"]:.3f} | \
{reward["low"]:+.3f} to {reward["high"]:+.3f} |
{rows}
| {kept["name"]} (not trained on) | {kept["real"]:.3f} | {kept["before"]:.3f} | {kept["after"]:.3f} | \
{kept["low"]:+.3f} to {kept["high"]:+.3f} |

Nats per note of the test split {nats["before"]:.3f} -> {nats["after"]:.3f};
distinct 4-grams {table["distinct"]["before"]:.3f} -> {table["distinct"]["after"]:.3f};
overlap of descriptors {table["overlap"]["before"]:.3f} -> {table["overlap"]["after"]:.3f}.

"""


WRITERS = ("model", "ngram", "real")


def music_section(metrics: dict[str, Any]) -> str:
    """What a musician hears first, and which controls are offered."""
    groups = metrics["music"]
    rows = "\n".join(
        f"| {kind}, {name.replace('_', ' ')} | "
        + " | ".join(format(groups[who][kind].get(name, float("nan")), ".3f") for who in WRITERS)
        + " |"
        for kind in ("tunes", "chorales")
        for name in groups["model"][kind]
    )
    controls = "\n".join(
        f"| {name} | {row['rank']:.2f} | {row['exact']:.1%} | {row['unasked_exact']:.1%} | "
        f"{'yes' if name in metrics['controls_earned'] else 'no'} |"
        for name, row in metrics["controls"].items()
    )
    return f"""### What a musician hears first

Endings, sections that come back, instruments that keep to their parts, chords. Real pieces are heard to
their real ends.

| | model | n-gram | real pieces |
|---|---|---|---|
{rows}

### Controls asked evenly over their range

Rank: Spearman's correlation of the class asked with what came. A control is offered where both are high
enough (`evaluate.control_rank`, `evaluate.control_exact`).

| control | rank | in the class asked | not asked | offered |
|---|---|---|---|---|
{controls}

"""


def write_model_card(path: Path, metrics: dict[str, Any], lineage: dict[str, Any]) -> None:
    """Markdown with what the model is, what it was trained on, what it may be used for, and what was
    measured."""
    sources = "\n".join(
        f"| {name} | {row['pieces']} | {row['licence']} |" for name, row in lineage["collections"].items()
    )
    rows = "\n".join(
        f"| {name} | {row['pieces']} | {row['nats_per_note']:.3f} | {row['ngram']:.3f} |"
        for name, row in metrics["by_collection"].items()
    )
    like, copied, training = metrics["overlap"], metrics["originality"], metrics["training"]
    filling = "\n".join(
        f"| {task} | {row['model']:.3f} | {row['model_blind']:.3f} | {row['ngram']:.3f} |"
        for task, row in metrics["fill"].items()
    )
    controls = "\n".join(
        (
            f"| {name} | {row['obeyed']:.1%} | {row['chance']:.1%} | "
            f"{format(row['unasked'], '.1%') if 'unasked' in row else '-'} | "
            f"{format(row['human'], '.1%') if 'human' in row else '-'} |"
        )
        for name, row in metrics["obedience"].items()
    )
    form = "\n".join(
        f"| {lag} | {row['model']:.1%} | {row['ngram']:.1%} | {row['test']:.1%} |"
        for lag, row in metrics["structure"].items()
    )
    path.write_text(f"""# Model card

A decoder-only transformer ({training["parameters"]:,} parameters, size `{lineage["network"]}`)
that writes symbolic music cell by cell, trained from nothing on the scores below for
{training["pretrain"]["steps"]} steps, then for {training["finetune"]["steps"]} steps with what each is, and
for {training["align"]["steps"]} steps on its own takes, judged by rewards.

**Licence class: {lineage["licence"]}** (the strictest of its data): {USE[lineage["licence"]]}.

| collection | pieces | licence class |
|---|---|---|
{sources}

Split by duplicate group with seed {lineage["split_seed"]}; data digest `{lineage["data_digest"][:16]}`.

## Measured on the test split

| collection | pieces | nats per note | n-gram of order {metrics["ngram_order"]} |
|---|---|---|---|
{rows}
| all | {sum(row["pieces"] for row in metrics["by_collection"].values())} | \
{metrics["nats_per_note"]:.3f} | {metrics["ngram_nats_per_note"]:.3f} |

- {metrics["below_ngram"]:.1%} below the n-gram; a uniform guess costs {metrics["uniform_nats_per_note"]:.2f}.
- Valid: {metrics["validity"]:.1%} of {metrics["samples"]} samples have exactly the bars, metres and
  tracks asked, in order, without double notes.
- Overlapped area of descriptors with the test set (Yang & Lerch, 1 = same): model
  {like["model"]["mean"]["oa"]:.3f}, n-gram {like["ngram"]["mean"]["oa"]:.3f},
  train set {like["train"]["mean"]["oa"]:.3f}.
- Longest run of intervals shared with the training set: median {copied["median_run"]:.0f},
  held-out human pieces {copied["human_median_run"]:.0f}; {copied["share_above_limit"]:.1%} of samples share
  more than {copied["limit_run"]:.0f} (humans {copied["human_share_above_limit"]:.1%}).

### Filling, nats per note of the region

| task | model | not shown what lies ahead | n-gram |
|---|---|---|---|
{filling}

### Controls: share that came as asked

Chance: the asked values dealt out at random. Not asked: pieces in the same metres and
instruments that were not told. Real pieces: the same judge on held-out pieces with their own labels.

| control | obeyed | chance | not asked | real pieces |
|---|---|---|---|---|
{controls}

### Form: share of bars that repeat the bar so many before

| | model | n-gram | test pieces |
|---|---|---|---|
{form}

{music_section(metrics)}{alignment_section(metrics.get("alignment", {}))}## Limits

It knows the styles, metres and instruments of its data and no others. It learned mostly from dance tunes:
long forms, dynamics and lyrics are beyond it. A sample may repeat a traditional phrase; `samples/index.json`
names the nearest training piece of each.
""")
