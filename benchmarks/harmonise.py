"""Harmonising held-out sopranos of Bach: whose roots come, beside a rule and the most frequent root; chords,
parallels, crossings, compass and closes, beside Bach's.

    python -m benchmarks.harmonise

The sopranos are those of the valid and test splits, whose tune families are in no training split. `served` is
the edit `harmonise` with the key told; `network alone` the same fill without the rule against parallels and
without second thoughts.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from benchmarks import report
from models.bundle import Bundle, open_bundle
from models.decoding.locks import Locks
from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.fill.parts import as_played
from models.fill.request import FillRequest, empty, plan_of
from models.judge.musical import chorales
from models.judge.tasks import cases_of, network_nats
from models.tokens.labels import Labels
from models.tokens.shards import Shard
from music.analysis.chords import beats_of, chords_of
from music.analysis.harmony import root_agreement
from music.analysis.voices import VoiceLeading, voice_leading
from music.score.chords import NO_CHORD
from music.score.file_cells import FileCells
from music.score.form import note_array
from music.score.keys import key_index

TOKENS, CHORALE, TEMPERATURE = Path("data/tokens"), "chorale", 0.6
RULE = {0: 0, 4: 0, 3: 0, 7: 0, 5: 5, 9: 5, 8: 5, 2: 7, 11: 7, 10: 7}  # degree of the soprano -> I, IV or V
Piece = tuple[Score, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundle"))
    bundle = open_bundle(parser.parse_args().bundle)
    shards = {split: Shard(TOKENS, split) for split in ("valid", "test")}
    pieces = [
        (bundle.tokenizer.decode_ids(shard.piece(i)), record["key"])
        for shard in shards.values()
        for i, record in enumerate(shard.records)
        if record["style"] == CHORALE and shard.statistics(i).shape[1] == 4
    ]
    written: dict[str, list[Score]] = {
        "served": [served(bundle, score, key, n) for n, (score, key) in enumerate(pieces)],
        "served, key not told": [served(bundle, score, "", n) for n, (score, _) in enumerate(pieces)],
        "network alone": alone(bundle, pieces),
        "Bach": [score for score, _ in pieces],
    }
    rows: list[dict[str, Any]] = []
    for who, scores in written.items():
        agreement = np.array(
            [root_agreement(mine, real) for mine, (real, _) in zip(scores, pieces, strict=True)]
        )
        hits, beats = agreement.sum(axis=0)
        rows.append(
            {
                "who": who,
                "Bach's root, share of beats": round(float(hits / beats), 4),
                **part_writing(scores, pieces),
            }
        )
    for name, rule in (
        ("rule: I, IV, V by the soprano", by_rule),
        ("most frequent root: the tonic", lambda *_: 0),
    ):
        rows.append({"who": name, "Bach's root, share of beats": baseline(pieces, rule)})
    cases = cases_of(
        shards["test"],
        bundle.tokenizer,
        "harmonise",
        count=160,
        seed=7,
        context=bundle.network.config.context,
    )
    notes = sum(case.notes for case in cases)
    seeing, blind = (
        float(network_nats(bundle.network, bundle.tokenizer, cases, look_ahead=ahead).sum()) / notes
        for ahead in (True, False)
    )
    rows.append(
        {
            "who": "nats a note of the lower voices",
            "what lies ahead shown": round(seeing, 4),
            "not shown": round(blind, 4),
        }
    )
    mine, bach = rows[0], rows[3]
    network = rows[2]
    report.write(
        "harmonise",
        rows,
        {
            "Bach's roots": report.target(mine["Bach's root, share of beats"], ">=", 0.5),
            "above the rule": report.target(
                mine["Bach's root, share of beats"], ">=", rows[4]["Bach's root, share of beats"]
            ),
            "gained by what lies ahead, nats": report.target(blind - seeing, ">=", 0.1),
            "parallel fifths of the network alone, times Bach's": report.target(
                network["fifths_per_1000"] / max(bach["fifths_per_1000"], 0.1), "<=", 5.0
            ),
            "parallel octaves of the network alone, times Bach's": report.target(
                network["octaves_per_1000"] / max(bach["octaves_per_1000"], 0.1), "<=", 5.0
            ),
        },
    )


def served(bundle: Bundle, score: Score, key: str, seed: int) -> Score:
    """The edit `harmonise` of the soprano alone."""
    soprano = score.copy()
    for k in range(len(score.tracks) - 1, 0, -1):
        del soprano.tracks[k]
    decoder, t = bundle.decoder(8), bundle.tokenizer
    edit = Edit("harmonise", style=CHORALE, key=key, seed=seed)
    answer = edit_file(t, bundle.judges, lambda rs: fill(decoder, t, rs), FileCells.of(soprano), edit)[0]
    return answer.file.score


def alone(bundle: Bundle, pieces: list[Piece]) -> list[Score]:
    """One fill of the lower voices, kept from nothing but the compass of each."""
    t, requests = bundle.tokenizer, []
    for n, (score, key) in enumerate(pieces):
        plan = plan_of(score)
        missing = empty(plan)
        missing[:, 0] = False
        locks = as_played(t, plan.programs, CHORALE, Locks(voice_leading=False))
        labels = Labels(CHORALE, key=key, bars=len(plan.metres))
        requests.append(
            FillRequest(plan, missing, labels, n, score, locks, temperature=TEMPERATURE, top_p=0.98)
        )
    return [filled.score for filled in fill(bundle.decoder(32), t, requests)]


def part_writing(scores: list[Score], pieces: list[Piece]) -> dict[str, float]:
    told = chorales([(score, key) for score, (_, key) in zip(scores, pieces, strict=True)])
    led = sum((voice_leading(score, score.tpq // 2) for score in scores), VoiceLeading(0, 0, 0, 0, 0, 0, 0))
    return {
        **told,
        "crossings_per_1000": round(1000 * led.crossings / max(led.steps, 1), 1),
        "outside_compass_per_1000": round(1000 * led.out_of_compass / max(led.notes, 1), 1),
    }


def by_rule(soprano: int, tonic: int) -> int:
    return RULE.get((soprano - tonic) % 12, 7)


def baseline(pieces: list[Piece], rule: Callable[[int, int], int]) -> float:
    """Share of Bach's roots that a rule names from the soprano at each beat."""
    hits = total = 0
    for score, key in pieces:
        tonic, notes = key_index(key)[0], note_array(score.tracks[0])
        for tick, root in zip(beats_of(score)[:, 0], chords_of(score)[:, 2], strict=True):
            sounding = notes[(notes[:, 0] <= tick) & (notes[:, 0] + notes[:, 1] > tick), 2]
            if root == NO_CHORD:
                continue
            total += 1
            hits += bool(len(sounding)) and (tonic + rule(int(sounding[-1]), tonic)) % 12 == root
    return round(hits / max(total, 1), 4)


if __name__ == "__main__":
    main()
