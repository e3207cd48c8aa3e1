"""Judges of style: NumPy reads what scikit-learn fitted, and restyling by a judge comes nearer to what is
asked."""

from pathlib import Path

import numpy as np
import pytest
from symusic import Score

from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.judge.style_classifier import (
    Judges,
    features,
    load_judges,
    save_judges,
    train_labeller,
    word_counts,
)
from models.tokens.tokenizer import CellTokenizer
from music.score.file_cells import FileCells
from music.score.form import build
from tests.models.decoding.random_fills import RandomDecoder, random_score


@pytest.mark.parametrize("labels", [2, 3])
def test_a_labeller_gives_the_probabilities_of_what_was_fitted_and_survives_its_file(
    tmp_path: Path, labels: int
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler, normalize

    random = np.random.default_rng(1)
    scores = [random_score(random) for _ in range(40)]
    names = [f"style {i % labels}" for i in range(40)]
    judge = train_labeller(scores, names)
    x = StandardScaler().fit_transform(np.stack([features(score) for score in scores]))
    words = normalize(np.stack([word_counts(score) for score in scores]) * judge.idf)
    theirs = LogisticRegression(max_iter=400, C=0.3).fit(x, names).predict_log_proba(x) + LogisticRegression(
        max_iter=400, C=10.0
    ).fit(words, names).predict_log_proba(words)
    theirs = theirs / 2 - np.log(np.exp(theirs / 2).sum(axis=1, keepdims=True))
    assert np.allclose(judge.log_probabilities(scores), theirs, atol=1e-3)
    assert np.allclose(np.exp(judge.log_probabilities(scores)).sum(axis=1), 1)
    save_judges(tmp_path / "judges", {"style": judge})
    again = load_judges(tmp_path / "judges")["style"]
    assert again.labels == judge.labels
    assert np.allclose(again.log_probabilities(scores), judge.log_probabilities(scores), atol=1e-4)


def test_no_judges_make_a_file_too(tmp_path: Path) -> None:
    save_judges(tmp_path / "judges", {})
    assert load_judges(tmp_path / "judges") == {}


def tune(step: int, notes: int, seed: int) -> Score:
    """Eight bars of `notes` notes each, `step` semitones apart on average."""
    random = np.random.default_rng(seed)
    pitch = 60 + np.cumsum(random.integers(-step, step + 1, 8 * notes)).clip(-20, 20)
    onset = np.arange(8 * notes) * 48 // notes
    return build(
        [(40, False, np.column_stack([onset, np.full(8 * notes, 48 // notes), pitch]))], [(0, 4, 4)], 12, 80
    )


def test_restyling_with_a_judge_is_named_as_asked_more_surely(tokenizer: CellTokenizer) -> None:
    scores = [tune(1 + 4 * (i % 2), 8 - 4 * (i % 2), i) for i in range(40)]
    judges: Judges = {"style": train_labeller(scores, [tokenizer.styles[i % 2] for i in range(40)])}
    sure: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(4):
        file = FileCells.of(tune(1, 8, 100 + seed))
        for judged in (False, True):
            decoder = RandomDecoder(len(tokenizer), 8, seed)
            (answer,) = edit_file(
                tokenizer,
                judges if judged else {},
                lambda requests, decoder=decoder: fill(decoder, tokenizer, requests),
                file,
                Edit("restyle", style=tokenizer.styles[1], strength=0.8, seed=seed),
            )  # type: ignore[misc]
            assert answer.contract.kept
            sure[judged].append(float(judges["style"].log_probabilities([answer.file.score])[0, 1]))
    assert np.mean(sure[True]) > np.mean(sure[False])


def test_strength_0_leaves_a_tune_as_it_was(tokenizer: CellTokenizer) -> None:
    file = FileCells.of(tune(1, 8, 7))
    judges: Judges = {
        "style": train_labeller(
            [tune(1 + i % 2, 8, i) for i in range(10)], [tokenizer.styles[i % 2] for i in range(10)]
        )
    }
    (answer,) = edit_file(
        tokenizer,
        judges,
        lambda requests: pytest.fail("nothing is to be filled"),
        file,
        Edit("restyle", style=tokenizer.styles[1], strength=0.0),
    )
    assert answer.changes == []
