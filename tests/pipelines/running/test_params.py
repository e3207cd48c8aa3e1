from pathlib import Path

import pytest
import yaml

from pipelines.running.files import StageError
from pipelines.running.params import ParamsError, load_params
from pipelines.running.profiles import apply_profile
from tests.conftest import ROOT


def changed(tmp_path: Path, edit) -> Path:  # type: ignore[no-untyped-def]
    value = yaml.safe_load((ROOT / "params.yaml").read_text())
    edit(value)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def test_committed_params_are_valid_and_hold_the_starter_profile() -> None:
    params = load_params(ROOT / "params.yaml")
    value = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, expected in params.profiles["starter"].items():
        node = value
        for part in dotted.split("."):
            node = node[part]
        assert node == expected, dotted


def test_every_profile_sets_the_same_entries() -> None:
    profiles = load_params(ROOT / "params.yaml").profiles
    assert len({tuple(sorted(entries)) for entries in profiles.values()}) == 1


def test_a_misspelt_entry_names_the_nearest_known(tmp_path: Path) -> None:
    def edit(value: dict) -> None:  # type: ignore[type-arg]
        value["pretrain"]["lerning_rate"] = value["pretrain"].pop("learning_rate")

    with pytest.raises(
        ParamsError, match=r"pretrain.lerning_rate: unknown entry; did you mean 'learning_rate'"
    ) as caught:
        load_params(changed(tmp_path, edit))
    assert "pretrain.learning_rate: missing" in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v["ingest"]["sources"][0].update(kind="folders"), "sources.0.kind"),
        (lambda v: v["ingest"]["sources"][0].update(licence="cc0"), "sources.0.licence"),
        (lambda v: v["ingest"]["sources"][0].update(pth="x"), "did you mean 'path'"),
        (
            lambda v: v["ingest"]["sources"].append(dict(v["ingest"]["sources"][0])),
            "two sources are called oneill",
        ),
        (lambda v: v["ingest"]["sources"][0].update(path="https://a.org/x.zip"), "needs the sha256"),
        (lambda v: v["ingest"]["sources"][0].update(path="http://a.org/x.zip"), "only https"),
        (lambda v: v["prepare"]["split"].update(train=0.9), "add up to 1"),
        (lambda v: v.update(pretrian={}), "did you mean 'pretrain'"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, edit, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParamsError, match=message):
        load_params(changed(tmp_path, edit))


def test_params_that_are_not_there_or_not_yaml_say_so(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run from the top of the repository"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(ParamsError, match="is not YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_profile_is_written_into_the_file_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_profile(path, "tiny")
    assert load_params(path).network.size == "tiny"
    assert "# windows in a step" in path.read_text()
    apply_profile(path, "starter")
    assert load_params(path) == load_params(ROOT / "params.yaml")
    with pytest.raises(StageError, match="there are tiny, starter, full"):
        apply_profile(path, "huge")
