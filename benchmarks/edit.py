"""Edits of the test split by the champion: contract, latency, locks, controls, realism of infills,
harmonising; baselines beside each. Restyling: benchmarks/edit_restyle.py.

`python -m benchmarks.edit --fuzz 5000` also sends that many random edits of mutated real files
(tests/models/edit/test_edit.py) through the champion's tokenizer.
"""

import argparse
import itertools
import json
import statistics
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from benchmarks import report
from benchmarks.edit_bench import TOKENS, Bench
from benchmarks.edit_chorales import chorales
from benchmarks.edit_music import realism
from models.bundle import open_bundle
from models.edit.by_rule import Rule
from models.edit.edit import OPERATIONS, Answer, apply_rule
from models.edit.tasks import Edit
from models.judge.ngram import NgramDecoder, NgramModel
from models.tokens.shards import Shard
from music.score.cells import BY_NAME, cell_statistics, control_classes
from music.score.file_cells import FileCells, set_notes
from music.score.form import note_array
from tests.models.edit.test_edit import fuzz

PARTS = ("operations", "fuzz", "locks", "infill", "chorales")
RULES = {
    "transpose": Rule(semitones=2),
    "quantise": Rule(),
    "swing": Rule(),
    "humanise": Rule(),
    "invert": Rule(),
    "retrograde": Rule(),
}


def operation(name: str, bench: Bench, i: int, bars: tuple[int, int], seed: int) -> Edit:
    """An edit of each kind with what it needs."""
    tracks, other = bench.files[i].shape[1], [s for s in bench.t.styles if s != bench.records[i]["style"]]
    extra: dict[str, dict[str, Any]] = {
        "restyle": {"style": other[seed % len(other)]},
        "rhythm": {"controls": {"note_length": 0.5}},
        "arrange": {"instruments": (bench.t.programs[seed % len(bench.t.programs)],)},
    }
    return Edit(
        name,
        bars,
        None if name in ("harmonise", "reharmonise", "arrange") else (seed % tracks,),
        seed=seed,
        **extra.get(name, {}),
    )


def every_operation(bench: Bench, count: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Contract and latency of each operation on 4 and 16 bars."""
    rows = []
    for name in names:
        seconds: dict[int, list[float]] = {4: [], 16: []}
        before, kept = bench.edits, bench.kept
        refused = 0
        for length, times in ((4, count), (16, max(count // 8, 5))):
            fewest = 2 if name == "reharmonise" else 1
            for n, (i, bars) in enumerate(
                bench.regions(
                    2 * times,
                    length,
                    seed=length,
                    of=lambda i, fewest=fewest: bench.files[i].shape[1] >= fewest,  # type: ignore[misc]
                )
            ):
                if len(seconds[length]) == times:
                    break
                begin = time.perf_counter()
                if name in RULES:
                    answer: Answer | None = apply_rule(bench.files[i], name, RULES[name], bars)
                    bench.edits, bench.kept = (
                        bench.edits + 1,
                        bench.kept + bool(answer and answer.contract.kept),
                    )
                else:
                    answer = bench.edit(bench.files[i], operation(name, bench, i, bars, n))
                if answer is None:
                    refused += 1
                else:
                    seconds[length].append(time.perf_counter() - begin)
        row: dict[str, Any] = {
            "operation": name,
            "edits": bench.edits - before,
            "contract kept": f"{(bench.kept - kept) / max(bench.edits - before, 1):.1%}",
            "refused": refused,
        }
        for length, times_s in seconds.items():
            ordered = sorted(times_s)
            row |= {
                f"{length} bars p50, ms": round(1000 * statistics.median(ordered), 1) if ordered else "",
                f"{length} bars p95, ms": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 1)
                if ordered
                else "",
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def locks_and_controls(bench: Bench, count: int) -> list[dict[str, Any]]:
    """What stays locked, and whether the asked class is reached, beside how often the region had it already
    (chance)."""
    rows = []
    random = np.random.default_rng(5)
    metres = [m for m in ((4, 4), (3, 4), (6, 8), (2, 4), (9, 8)) if m in bench.t.metres]
    for name, what in (
        ("melody", "rhythm"),
        ("rhythm", "density"),
        ("rhythm", "note_length"),
        ("rhythm", "syncopation"),
        ("rhythm", "metre"),
    ):
        locked = reached = already = near = total = 0
        for n, (i, bars) in enumerate(
            bench.regions(count, 4, seed=9, of=lambda i: bench.files[i].shape[1] == 1)
        ):
            file = bench.files[i]
            now = classes(bench, file, bars)
            edit = Edit(name, bars, None if what == "metre" else (0,), seed=n)
            target = -1
            if what == "metre":
                metre = metres[int(random.integers(len(metres)))]
                edit = Edit(name, bars, None, metre=f"{metre[0]}/{metre[1]}", seed=n)
            elif name == "rhythm":
                control = BY_NAME[what]
                target = int(np.clip(now.get(what, 0) + random.choice([-1, 1]), 0, control.classes - 1))
                edit = Edit(name, bars, (0,), controls={what: sum(control.bounds(target)) / 2}, seed=n)
            answer = bench.edit(file, edit)
            if answer is None:
                continue
            total += 1
            old, new = inside(file, bars), inside(answer.file, bars)
            locked += np.array_equal(old[:, :2], new[:, :2]) if name == "melody" else once(old) == once(new)
            if what == "metre":
                reached += bool((answer.file.bars[bars[0] : bars[1], 2:] == metre).all())
                already += bool((file.bars[bars[0] : bars[1], 2:] == metre).all())
            elif target >= 0:
                found = classes(bench, answer.file, bars).get(what, 0)
                reached, already, near = (
                    reached + (found == target),
                    already + (now.get(what, 0) == target),
                    near + (abs(found - target) <= 1),
                )

        def share(x: int, total: int = total) -> str:
            return f"{x / max(total, 1):.1%}"

        rows.append(
            {
                "operation": name,
                "asked": what if name == "rhythm" else "-",
                "edits": total,
                "locked half identical": share(locked),
                "reached": share(reached) if name == "rhythm" else "-",
                "within one class": share(near) if what in BY_NAME else "-",
                "had it before": share(already) if name == "rhythm" else "-",
            }
        )
        print(rows[-1], flush=True)
    return rows


def inside(file: FileCells, bars: tuple[int, int]) -> np.ndarray:
    """Notes (n, 3) of the first track in some bars, onset from the first of them."""
    notes = note_array(file.score.tracks[0])
    bar = file.bar_of(notes[:, 0])
    return notes[(bar >= bars[0]) & (bar < bars[1])] - np.array([file.bars[bars[0], 0], 0, 0])


def once(notes: np.ndarray) -> list[tuple[int, ...]]:
    """Pitches of what begins together, in order of time; what is struck several times running counts once."""
    struck = [tuple(notes[notes[:, 0] == onset, 2].tolist()) for onset in np.unique(notes[:, 0])]
    return [chord for i, chord in enumerate(struck) if not i or chord != struck[i - 1]]


def classes(bench: Bench, file: FileCells, bars: tuple[int, int]) -> dict[str, int]:
    return control_classes(
        cell_statistics(file.score)[bars[0] : bars[1], 0],
        int(file.bars[bars[0] : bars[1], 1].sum()),
        bench.t.ticks_per_quarter,
    )


def infills(bench: Bench, count: int) -> list[dict[str, Any]]:
    """Can a classifier tell infilled bars from real ones? Ours, copying the bars before, and the n-gram, each
    against the same real bars."""
    train = Shard(TOKENS, "train")
    ngram = NgramDecoder(
        NgramModel([train.piece(i) for i in range(len(train))], len(bench.t), 5),
        bench.t,
        16,
        bench.decoder.context,
    )
    regions = bench.regions(count, 4, seed=21, of=lambda i: bench.files[i].shape[1] == 1)
    real = [(bench.files[i], bars) for i, bars in regions]
    made: dict[str, list[FileCells]] = {"ours": [], "n-gram": [], "the bars before": []}
    for n, (i, bars) in enumerate(regions):
        for name, decoder in (("ours", None), ("n-gram", ngram)):
            answer = bench.edit(bench.files[i], Edit("infill", bars, (0,), seed=n), decoder)
            made[name].append(answer.file if answer else bench.files[i])
        made["the bars before"].append(copied(bench.files[i], bars))
    rows = []
    for name, files in made.items():
        accuracy, low, high = realism(
            [(f, b) for f, (_, b) in zip(files, real, strict=True)], real, [i for i, _ in regions]
        )
        rows.append(
            {
                "infill of 4 bars by": name,
                "regions": count,
                "told from real, accuracy": f"{accuracy:.1%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                "chance": "50 %",
            }
        )
        print(rows[-1], flush=True)
    return rows


def copied(file: FileCells, bars: tuple[int, int]) -> FileCells:
    """The region filled with the bars just before it, again and again where there are too few."""
    notes = note_array(file.score.tracks[0])
    bar = file.bar_of(notes[:, 0])
    parts = [notes[(bar < bars[0]) | (bar >= bars[1])]]
    span = min(bars[1] - bars[0], bars[0])
    for b in range(*bars):
        source = bars[0] - span + (b - bars[0]) % span
        parts.append(notes[bar == source] + np.array([file.bars[b, 0] - file.bars[source, 0], 0, 0]))
    score = file.score.copy()
    together = np.concatenate(parts)
    set_notes(score.tracks[0], np.column_stack([together, np.full(len(together), 80)]))
    return FileCells(score, file.bars)


def fuzzed(bench: Bench, count: int, archive: Path) -> dict[str, int]:
    """Random edits of mutated real files, with the worst network there is."""
    with tarfile.open(archive) as tar:
        scores = [
            Score.from_midi(tar.extractfile(m).read())  # type: ignore[union-attr]
            for m in itertools.islice((m for m in tar if m.name.endswith(".mid")), 200)
        ]
    done, broken, refused = fuzz(bench.t, bench.bundle.judges, scores, range(10_000, 10_000 + count))
    return Counter(done=done, broken=broken, refused=refused)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--fuzz", type=int, default=5000)
    parser.add_argument("--archive", type=Path, default=Path("../shared/data/lieder.tar.gz"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", nargs="+", help="operations to measure anew; the rows of the others stay")
    options = parser.parse_args()
    bench = Bench(open_bundle(Path("bundle")))
    if "operations" in options.parts:
        operations = every_operation(bench, options.count, options.only or (*OPERATIONS, *RULES))
        if options.only:  # measured anew among the rows of the last result
            new = {row["operation"]: row for row in operations}
            operations = [
                new.get(row["operation"], row)
                for row in json.loads((report.FOLDER / "edit.json").read_text())["rows"]
            ]
        infill = next(row for row in operations if row["operation"] == "infill")
        targets = {
            "contract_kept": report.target(bench.kept / bench.edits, ">=", 1.0),
            "infill_4_bars_p50_s": report.target(infill["4 bars p50, ms"] / 1000, "<=", 1.5),
        }
        report.write("edit", operations, targets)
    if "fuzz" in options.parts and options.archive.is_file():
        found = fuzzed(bench, options.fuzz, options.archive)
        row = {
            "requests": options.fuzz,
            "on": "mutated real files, with a random network",
            "refused with a reason": found["refused"],
            "edited": found["done"],
            "contract broken": found["broken"],
        }
        report.write(
            "edit_fuzz", [row], {"contract_broken": report.target(found["broken"], "<=", 0)}, by="edit"
        )
    if "locks" in options.parts:
        locks = locks_and_controls(bench, options.count)
        targets = {
            f"locked_{row['operation']}_{row['asked']}": report.target(
                float(row["locked half identical"].rstrip("%")) / 100, ">=", 1.0
            )
            for row in locks
        }
        targets |= {
            f"reached_{row['asked']}": report.target(float(row["reached"].rstrip("%")) / 100, ">=", 0.8)
            for row in locks
            if row["reached"] != "-"
        }
        report.write("edit_locks", locks, targets, by="edit")
    if "infill" in options.parts:
        report.write("edit_infill", infills(bench, options.count), {}, by="edit")
    if "chorales" in options.parts:
        report.write("edit_chorales", chorales(bench, 40), {}, by="edit")


if __name__ == "__main__":
    main()
