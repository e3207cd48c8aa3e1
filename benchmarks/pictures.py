"""Before and after of every edit operation as piano rolls: writes docs/images/edit-<operation>.svg from the
champion in bundle/.

SVG, so that they are text: small in git, sharp in a browser.
"""

from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score, TimeSignature, Track

from models.bundle import open_bundle
from models.edit.by_rule import RULES, Rule
from models.edit.edit import NAMES, apply_rule, edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from music.score.file_cells import FileCells, set_notes

FOLDER = Path("docs/images")
COLOURS = ("#1f6feb", "#d9822b", "#2da44e", "#8250df", "#bf3989", "#57606a")
TUNE = "D4 G4 B4 d5 B4 G4 A4 B4|c5 A4 F#4 A4 D4 E4 F#4 A4|G4 B4 d5 g5 f#5 d5 e5 c5|B4 G4 A4 F#4 G4 D4 B3 D4|"
BASS = ("G2 D3", "D3 A2", "G2 C3", "D3 G2")
MODEL: dict[str, dict[str, Any]] = {
    "infill": {"bars": (4, 6)},
    "continue": {"length": 4},
    "vary": {"strength": 0.4},
    "restyle": {"style": "irish", "rhythm": "jig", "metre": "6/8", "strength": 0.6, "tracks": None},
    "rhythm": {"controls": {"density": 2.6}},
    "melody": {"key": "E minor"},
    "harmonise": {"bars": None, "tracks": None},
    "reharmonise": {"tracks": None},
    "arrange": {"instruments": ("cello",), "tracks": None},
    "simplify": {},
    "elaborate": {},
}
BY_RULE: dict[str, dict[str, Any]] = {
    "transpose": {"to_key": "D major"},
    "quantise": {"grid": "1/4"},
    "swing": {},
    "humanise": {"timing_ms": 60.0},
    "invert": {},
    "retrograde": {},
    "tempo": {"qpm": 90.0},
    "stretch": {"factor": 2.0},
    "metre": {"metre": "3/4"},
    "split": {"pitch": 69},
    "merge": {},
    "trim": {},
}


def tune(with_bass: bool) -> FileCells:
    """Eight bars in G major, of our own, 480 ticks a quarter."""
    score = Score(480)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    names = {"C": 0, "C#": 1, "D": 2, "E": 4, "F": 5, "F#": 6, "G": 7, "A": 9, "B": 11}
    bars = [bar.split() for bar in TUNE.strip("|").split("|")] * 2
    notes = [
        (1920 * b + 240 * i, 240, names[word[:-1].upper()] + 12 * (int(word[-1]) + 1), 80)
        for b, bar in enumerate(bars)
        for i, word in enumerate(bar)
    ]
    low = [
        (1920 * b + 960 * i, 960, names[word[:-1]] + 12 * (int(word[-1]) + 1), 70)
        for b, bar in enumerate(BASS * 2)
        for i, word in enumerate(bar.split())
    ]
    for name, program, mine in (("Fiddle", 40, notes), ("Bass", 42, low))[: 1 + with_bass]:
        track = Track(name, program, False)
        set_notes(track, np.array(mine, dtype=np.int64))
        score.tracks.append(track)
    return FileCells.of(score)


def roll(
    file: FileCells,
    left: float,
    top: float,
    width: float,
    height: float,
    ticks: int,
    pitches: tuple[int, int],
    region: tuple[int, int] | None,
) -> list[str]:
    """One piano roll as SVG elements; pitch upwards, a line at each bar, the region shaded."""
    across, up = width / ticks, height / (pitches[1] - pitches[0] + 1)
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="#f6f8fa"/>']
    if region:
        start, end = file.bars[region[0], 0], file.bars[min(region[1], len(file.bars)) - 1, :2].sum()
        parts.append(
            f'<rect x="{left + start * across:.1f}" y="{top}" '
            f'width="{(end - start) * across:.1f}" height="{height}" fill="#fff3bf"/>'
        )
    parts += [
        (
            f'<line x1="{left + b * across:.1f}" x2="{left + b * across:.1f}" y1="{top}" '
            f'y2="{top + height}" stroke="#d0d7de"/>'
        )
        for b in file.bars[:, 0].tolist()
    ]
    for k in range(file.shape[1]):
        for onset, duration, pitch, _ in file.notes(k).tolist():
            parts.append(
                f'<rect x="{left + onset * across:.1f}" '
                f'y="{top + (pitches[1] - pitch) * up:.1f}" '
                f'width="{max(duration * across - 0.6, 1):.1f}" height="{up:.1f}" '
                f'fill="{COLOURS[k % len(COLOURS)]}"/>'
            )
    return parts


def picture(before: FileCells, after: FileCells, region: tuple[int, int] | None, title: str) -> str:
    """Before above, after below, on the same scales."""
    ticks = max(int(file.bars[-1, :2].sum()) for file in (before, after))
    all_pitches = np.concatenate(
        [file.notes(k)[:, 2] for file in (before, after) for k in range(file.shape[1])]
    )
    pitches = int(all_pitches.min()) - 1, int(all_pitches.max()) + 1
    width, height = 760.0, 120.0
    body = [
        f'<text x="4" y="14">{title}: before</text>',
        *roll(before, 0, 20, width, height, ticks, pitches, region),
        '<text x="4" y="160">after</text>',
        *roll(after, 0, 166, width, height, ticks, pitches, region),
    ]
    return (
        (
            '<svg xmlns="http://www.w3.org/2000/svg" width="760" height="290" '
            'font-family="sans-serif" '
            'font-size="12"><rect width="760" height="290" fill="white"/>\n'
        )
        + "\n".join(body)
        + "\n</svg>\n"
    )


def main() -> None:
    bundle = open_bundle(Path("bundle"))
    decoder = bundle.decoder(8)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        file = tune(with_bass=name not in ("harmonise", "split", "continue", "restyle"))
        if name in RULES:
            bars = (2, 6) if RULES[name].local or name == "trim" else None
            tracks = (0,) if name == "split" else None
            answer = apply_rule(file, name, Rule(**BY_RULE[name], seed=1), bars, tracks)
        else:
            options = {"bars": (2, 6) if name != "continue" else None, "tracks": (0,), **MODEL[name]}
            bars = options["bars"]
            (answer,) = edit_file(
                bundle.tokenizer,
                bundle.judges,
                lambda requests: fill(decoder, bundle.tokenizer, requests),
                file,
                Edit(name, seed=3, **options),
            )
        (FOLDER / f"edit-{name}.svg").write_text(picture(file, answer.file, bars, name))


if __name__ == "__main__":
    main()
