"""Forms of real tunes, told where none is asked."""

import numpy as np
import pytest

from models.fill.asked import form_named, form_places
from models.fill.compose import Composition, requests_of
from models.fill.forms import Forms
from models.tokens.shards import Shard, ShardWriter
from models.tokens.tokenizer import CellTokenizer
from music.analysis.sections import bar_places, sections_of
from music.score.cells import cell_statistics
from music.score.form import bar_table, build

BAR = 48


def _tune(bars: str, upbeat: int = 0) -> list[tuple[int, bool, np.ndarray]]:
    """A fiddle tune with a bar for each letter, the same for the same letter; an upbeat is one bar more."""
    notes = [(0, BAR, 60 + ord(letter) % 30) for letter in bars]
    if upbeat:
        notes.insert(0, (BAR * 3 // 4, BAR // 4, 60))
    return [(40, False, np.array(notes) + [[b * BAR, 0, 0] for b in range(len(notes))])]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, tokenizer: CellTokenizer) -> Forms:
    """Of twelve tunes A A B B' of 32 bars, four of them with an upbeat, and eight of 16 bars in which nothing
    comes back."""
    folder = tmp_path_factory.mktemp("shard")
    eight, other, changed = "abcdefgh", "ijklmnop", "ijkl01op"
    tunes = [(eight + eight + other + changed, n % 3 == 0) for n in range(12)]
    tunes += [("abcdefghijklmnop", False)] * 8
    with ShardWriter(folder, "train") as writer:
        for bars, upbeat in tunes:
            score = build(_tune(bars, int(upbeat)), [(0, 4, 4)], 12, 80)
            ids, starts = tokenizer.encode_score(score)
            writer.add(
                ids,
                starts,
                cell_statistics(score),
                bar_places(sections_of(score), len(bar_table(score))),
                np.zeros((0, 5), dtype=np.int32),
                piece_id="x",
                collection="x",
                style=tokenizer.styles[0],
                rhythm="",
                key="C major",
                tempo="",
                notes=len(bars),
                low=60,
                high=90,
            )
    made = Forms.of_shard(Shard(folder, "train"))
    made.save(folder / "forms.json")
    return Forms.load(folder / "forms.json")


def test_a_tune_is_told_a_form_of_its_length(tokenizer: CellTokenizer, forms: Forms) -> None:
    style = tokenizer.styles[0]
    drawn = {forms.draw(style, "", 32, seed) for seed in range(20)}
    assert drawn == {"A:8 A:8 B:8 B':8"}, "an upbeat is no bar of a section, a changed return is marked"
    assert forms.draw(style, "", 16, 1) == "", "in tunes of 16 bars nothing came back"
    assert forms.draw(style, "", 20, 1) == "", "no tune has 20 bars"
    assert forms.draw("none of them", "", 32, 1) == ""


def test_takes_are_told_forms_unless_something_else_is_asked(tokenizer: CellTokenizer, forms: Forms) -> None:
    style = tokenizer.styles[0]

    def told(**asked: object) -> list[str]:
        wanted = {"style": style, "bars": 32, "instruments": [tokenizer.programs[0]], **asked}
        return [
            form_named(request.form, request.copied)
            for request in requests_of(tokenizer, Composition(**wanted), forms)  # type: ignore[arg-type]
        ]

    assert told(n=2) == ["A:8 A:8 B:8 B':8"] * 2
    assert told(form="free") == [""]
    assert told(form="ABAB") == ["A:8 B:8 A:8 B:8"]
    assert told(chords="C | G") == [""], "a chord line has its own form"
    assert told(instruments=[tokenizer.programs[0]] * 2) == [""], "forms are those of tunes"


@pytest.mark.parametrize("form", ["A:8 A:8 B:8 B':8", "A:4 B:8 A:4", "A:16"])
def test_a_form_is_named_as_it_was_asked(form: str) -> None:
    assert form_named(*form_places(form, sum(int(part.split(":")[1]) for part in form.split()))) == form
