"""What a musician hears first in what the champion writes, beside real pieces and the n-gram: how pieces end,
whether sections come back, whether voices make chords, whether instruments keep to their parts, whether
chords that are asked for come.

    python -m benchmarks.composing --takes 200

Everything is written as it is served; real tunes are those of the same length. Chords asked for are those of
another test piece of the same mode, moved to the key asked, so that they are not what the prompt would have
had anyway. A beat obeys where what is struck on it lies in the chord asked; in chorales also where its root
is the one asked.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from benchmarks import report
from models.bundle import Bundle, open_bundle
from models.edit.chorales import drafted, revised
from models.fill.best_of import drafts
from models.fill.compose import Composition, compose, requests_of, takes_of
from models.fill.fill import fill
from models.judge.musical import chorales, endings, parts, sections
from models.judge.ngram import NgramDecoder, best_order
from models.tokens.shards import Shard
from music.analysis.chords import beats_of, chords_of, lead_sheet
from music.analysis.harmony import sounding_on_beats
from music.score.chords import NAMES, NO_CHORD, QUALITIES, chord_name, parse_chord
from music.score.form import bar_table
from music.score.keys import key_index

TOKENS, SEED = Path("data/tokens"), 31
CHORALE, CHORALE_BARS = "chorale", 12
Pieces = list[tuple[Score, str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--takes", type=int, default=200, help="of each kind")
    parser.add_argument("--bundle", type=Path, default=Path("bundle"))
    arguments = parser.parse_args()
    bundle, test = open_bundle(arguments.bundle), Shard(TOKENS, "test")
    t = bundle.tokenizer
    random = np.random.default_rng(SEED)
    tunes = [i for i, r in enumerate(test.records) if r["style"] != CHORALE and r["rhythm"]]
    four = [
        i for i, r in enumerate(test.records) if r["style"] == CHORALE and test.statistics(i).shape[1] == 4
    ]
    real = {i: t.decode_ids(test.piece(i)) for i in (*tunes, *four)}
    picked = random.choice(tunes, arguments.takes).tolist()
    picked_four = random.choice(four, min(arguments.takes, 80)).tolist()

    def asks(pieces: Sequence[int], bars: int, **more: Any) -> list[Composition]:
        return [
            ask_like(test.records[i], real[i], bars, SEED * 1000 + n, **more) for n, i in enumerate(pieces)
        ]

    def keyed(scores: Sequence[Score], pieces: Sequence[int]) -> Pieces:
        return [(score, test.records[i]["key"]) for score, i in zip(scores, pieces, strict=True)]

    of_length = {  # with an upbeat a bar more
        bars: [i for i in tunes if len(bar_table(real[i])) in (bars, bars + 1)] for bars in (16, 32)
    }
    every = {
        split: [s.piece(i) for i in range(len(s))]
        for split in ("train", "valid")
        for s in (Shard(TOKENS, split),)
    }
    baseline = best_order(every["train"], every["valid"], len(t), (4, 5, 6))[0]
    ngram = NgramDecoder(baseline, t, 40, 512)
    sixteen, thirty_two = asks(picked, 16), asks(picked, 32)
    written = {
        "champion": (
            write(bundle, sixteen),
            write(bundle, thirty_two),
            write(bundle, asks(picked_four, CHORALE_BARS)),
        ),
        "n-gram": tuple(
            write(bundle, a, decoder=ngram) for a in (sixteen, thirty_two, asks(picked_four, CHORALE_BARS))
        ),
        "real": ([real[i] for i in of_length[16]], [real[i] for i in of_length[32]], [real[i] for i in four]),
    }
    table: dict[str, dict[str, float]] = {}
    for who, (short, long, chorale) in written.items():
        of_tunes, of_long = (of_length[16], of_length[32]) if who == "real" else (picked, picked)
        of_four = four if who == "real" else picked_four
        table[who] = {
            **{f"tunes, {name}": v for name, v in endings(keyed(short, of_tunes)).items()},
            **{f"tunes, {name}": v for name, v in parts(t, short).items()},
            **{f"tunes of 32 bars, {name}": v for name, v in endings(keyed(long, of_long)).items()},
            **{f"tunes of 32 bars, {name}": v for name, v in sections(long).items()},
            **{f"chorales, {name}": v for name, v in chorales(keyed(chorale, of_four)).items()},
        }
    in_form = write(bundle, asks(picked, 32, form="AABB"))
    table["champion, form AABB asked"] = {
        **{f"tunes of 32 bars, {name}": v for name, v in endings(keyed(in_form, picked)).items()},
        **{f"tunes of 32 bars, {name}": v for name, v in sections(in_form).items()},
    }
    drafted = asks(picked_four, CHORALE_BARS)
    served = [served_chorale(bundle, ask) for ask in drafted]
    table["champion, chorales revised (as served)"] = {
        f"chorales, {name}": v for name, v in chorales(keyed(served, picked_four)).items()
    }
    best = write(bundle, asks(picked_four, CHORALE_BARS, best_of=8))
    table["champion, best of 8"] = {
        f"chorales, {n}": v for n, v in chorales(keyed(best, picked_four)).items()
    }
    table["champion, chords asked"], table["champion"] = chords_obeyed(
        bundle,
        test,
        real,
        {"tunes": (picked, 16), "chorales": (picked_four, CHORALE_BARS)},
        table["champion"],
    )
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    rows = [{"what": name, **{who: row.get(name, "") for who, row in table.items()}} for name in names]
    mine, form, asked = table["champion"], table["champion, form AABB asked"], table["champion, chords asked"]
    theirs, revised_row = table["real"], table["champion, chorales revised (as served)"]
    repeats = [
        abs(
            mine[f"tunes of 32 bars, repeats_after_{lag}"] / theirs[f"tunes of 32 bars, repeats_after_{lag}"]
            - 1
        )
        for lag in (4, 8)
    ]
    report.write(
        "composing",
        rows,
        {
            "last note tonic": report.target(mine["tunes, tonic"], ">=", 0.65),
            "tonic held": report.target(mine["tunes, tonic_held"], ">=", 0.45),
            "A = A asked": report.target(form["tunes of 32 bars, second_as_first"], ">=", 0.95),
            "A = A unasked": report.target(mine["tunes of 32 bars, pieces_second_as_first"], ">=", 0.7),
            "repetition after 4 and 8 bars, distance from real": report.target(max(repeats), "<=", 0.2),
            "overlapping notes": report.target(mine["tunes, overlapping"], "<=", 0.0),
            "triads and sevenths": report.target(revised_row["chorales, chords"], ">=", 0.75),
            "no chord": report.target(revised_row["chorales, no_chord"], "<=", 0.15),
            "authentic closes": report.target(revised_row["chorales, authentic_close"], ">=", 0.5),
            "chords obeyed, chorales": report.target(asked["chorales, chords obeyed by root"], ">=", 0.8),
            "chords obeyed, tunes": report.target(asked["tunes, chords obeyed"], ">=", 0.8),
        },
    )


def ask_like(record: dict[str, Any], score: Score, bars: int, seed: int, **more: Any) -> Composition:
    """Style, dance, key and metre of a piece."""
    bars_of = bar_table(score)
    n, d = bars_of[min(1, len(bars_of) - 1), 2:].tolist()
    style, rhythm, key = record["style"], record["rhythm"], record["key"]
    return Composition(style=style, rhythm=rhythm, key=key, metre=f"{n}/{d}", bars=bars, seed=seed, **more)


def write(
    bundle: Bundle, asked: Sequence[Composition], decoder: Any = None, told: bool = True, steered: bool = True
) -> list[Score]:
    """A take of each, as they are served; of another decoder, or not `told`, without the forms of real
    tunes."""
    t, forms = bundle.tokenizer, bundle.forms if told and decoder is None else None
    requests = [
        replace(request, steered=steered)
        for each in asked
        for request in drafts(requests_of(t, each, forms), each.best_of)
    ]
    filled = fill(decoder or bundle.decoder(32), t, requests)
    return [take.score for take in takes_of(requests, filled, asked[0].best_of, bundle.rewards.of_answer, {})]


def served_chorale(bundle: Bundle, asked: Composition) -> Score:
    """A composed chorale after second thoughts."""
    decoder, t = bundle.decoder(16), bundle.tokenizer
    takes = compose(decoder, t, drafted(t, asked), worth=bundle.rewards.of_answer)
    return revised(t, bundle.judges, lambda rs: fill(decoder, t, rs), asked, takes)[0].score


def chords_obeyed(
    bundle: Bundle,
    test: Shard,
    real: dict[int, Score],
    kinds: dict[str, tuple[list[int], int]],
    unasked_row: dict[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of beats that obey, asked and (into `unasked_row`) not asked, and where the chords of another
    prompt are looked for (chance)."""
    random = np.random.default_rng(SEED + 1)
    asked_row: dict[str, float] = {}
    for kind, (pieces, bars) in kinds.items():
        asks, sheets = [], []
        for n, i in enumerate(pieces):
            ask = ask_like(test.records[i], real[i], bars, SEED * 2000 + n)
            sheet = _sheet_of_another(test, real, i, pieces, bars, random)
            sheets.append(sheet)
            asks.append(replace(ask, chords=sheet))
        told = write(bundle, asks)
        untold = write(bundle, [replace(ask, chords="") for ask in asks])
        for by_root in (False, *([True] if kind == "chorales" else [])):
            name = f"{kind}, chords obeyed" + (" by root" if by_root else "")
            asked_row[name] = _obeyed(told, sheets, by_root)
            unasked_row[name] = _obeyed(untold, sheets, by_root)
            asked_row[f"{name}, chance"] = _obeyed(told, sheets[1:] + sheets[:1], by_root)
    return asked_row, unasked_row


def _sheet_of_another(
    test: Shard, real: dict[int, Score], i: int, pieces: Sequence[int], bars: int, random: np.random.Generator
) -> str:
    """The lead sheet of the last bars of another piece of the same metre and mode, in the key of piece i."""
    tonic, mode = key_index(test.records[i]["key"])
    metre = bar_table(real[i])[-1, 2:].tolist()
    able = [
        j
        for j in sorted(set(pieces))
        if j != i
        and len(bar_table(real[j])) >= bars
        and bar_table(real[j])[-1, 2:].tolist() == metre
        and key_index(test.records[j]["key"])[1] == mode
    ] or [i]
    j = int(random.choice(able))
    move = tonic - key_index(test.records[j]["key"])[0]
    lines = lead_sheet(real[j], test.records[j]["key"]).split(" | ")[-bars:]
    return " | ".join(" ".join(_moved(symbol, move) for symbol in line.split()) for line in lines)


def _moved(symbol: str, semitones: int) -> str:
    root, quality, bass = parse_chord(symbol)
    return (
        symbol if root == NO_CHORD else chord_name((root + semitones) % 12, quality, (bass + semitones) % 12)
    )


def _obeyed(scores: Sequence[Score], sheets: Sequence[str], by_root: bool) -> float:
    """Share of the beats with a chord that obey it."""
    hits = total = 0
    for score, sheet in zip(scores, sheets, strict=True):
        wanted = _by_beat(score, sheet)
        found = chords_of(score)[:, 2] if by_root else sounding_on_beats(score)
        for want, have in zip(wanted, found, strict=False):
            if want is None:
                continue
            total += 1
            if by_root:
                hits += int(have) == want[0]
            else:
                tones = {(want[0] + step) % 12 for step in QUALITIES[NAMES[want[1]]]}
                hits += bool(have) and have <= tones
    return round(hits / max(total, 1), 4)


def _by_beat(score: Score, sheet: str) -> list[tuple[int, int, int] | None]:
    """The chord asked at each beat of a score."""
    beats = beats_of(score)
    starts = [*np.flatnonzero(beats[:, 2] == 0).tolist(), len(beats)]
    found: list[tuple[int, int, int] | None] = [None] * len(beats)
    for bar, symbols in zip(range(len(starts) - 1), sheet.split(" | "), strict=False):
        names, count = symbols.split(), starts[bar + 1] - starts[bar]
        cuts = [round(n * count / len(names)) for n in range(len(names) + 1)]
        for name, first, last in zip(names, cuts, cuts[1:], strict=False):
            chord = parse_chord(name)
            for beat in range(starts[bar] + first, starts[bar] + last):
                found[beat] = chord if chord[0] != NO_CHORD else None
    return found


if __name__ == "__main__":
    main()
