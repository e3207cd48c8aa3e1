"""Harmonised chorales beside Bach."""

from typing import Any

import numpy as np

from benchmarks.edit_bench import Bench
from benchmarks.edit_music import chord_agreement
from models.edit.tasks import Edit
from music.analysis.voices import VoiceLeading, voice_leading


def chorales(bench: Bench, count: int) -> list[dict[str, Any]]:
    """Alto, tenor and bass written under Bach's sopranos, against Bach's own."""
    four = [
        i
        for i in range(len(bench.files))
        if bench.files[i].shape[1] == 4 and bench.records[i]["style"] == "chorale"
    ][:count]
    tpq = bench.t.ticks_per_quarter
    bach, ours = VoiceLeading(0, 0, 0, 0, 0, 0, 0), VoiceLeading(0, 0, 0, 0, 0, 0, 0)
    agreed, tonic = [], []
    for i in four:
        file = bench.files[i]
        answer = bench.edit(file, Edit("reharmonise", None, None, style="chorale", melody=0, seed=i))
        if answer is None:
            continue
        bach, ours = (
            bach + voice_leading(file.score, tpq // 2),
            ours + voice_leading(answer.file.score, tpq // 2),
        )
        mine, most = chord_agreement(file.score, answer.file.score, tpq)
        agreed.append(mine)
        tonic.append(most)
    rows = []
    for name, v, chords in (
        ("Bach", bach, 1.0),
        ("ours", ours, float(np.mean(agreed))),
        ("the piece's most frequent chord", None, float(np.mean(tonic))),
    ):
        rows.append(
            {
                "voices by": name,
                "chorales": len(agreed),
                "chord of the beat as Bach's": f"{chords:.1%}",
                "parallel fifths per 1,000 moves": f"{1000 * v.parallel_fifths / v.moves:.1f}" if v else "-",
                "parallel octaves": f"{1000 * v.parallel_octaves / v.moves:.1f}" if v else "-",
                "crossings per 1,000 steps": f"{1000 * v.crossings / v.steps:.1f}" if v else "-",
                "notes out of compass": f"{v.out_of_compass / v.notes:.2%}" if v else "-",
            }
        )
    print(rows, flush=True)
    return rows
