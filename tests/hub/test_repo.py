from __future__ import annotations

import pytest

from engine.hub.repo import Repo, parse, training_files


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("tatsu-lab/alpaca", Repo("hf", "tatsu-lab/alpaca")),
        ("hf:me/names@v1.2", Repo("hf", "me/names", "v1.2")),
        ("hf://datasets/me/names", Repo("hf", "me/names")),
        ("ms:me/名字", Repo("ms", "me/名字")),
    ],
)
def test_what_names_a_repository(text: str, repo: Repo) -> None:
    assert parse(text) == repo
    assert parse(str(repo)) == repo


@pytest.mark.parametrize(
    "text", ["data.json", "./me/names", "/me/names", "a/b/c", "me/", "~/data", "xy:me/names", ""]
)
def test_what_names_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("names", "declared", "chosen"),
    [
        (["README.md", "rows.json"], [], ["rows.json"]),
        (
            ["data/train-1.parquet", "data/train-0.parquet", "data/test-0.parquet"],
            [],
            ["data/train-0.parquet", "data/train-1.parquet"],
        ),
        (["a.jsonl.gz", "b.jsonl.gz", "dev.jsonl.gz"], [], ["a.jsonl.gz", "b.jsonl.gz"]),
        (["rows.csv", "rows.parquet"], [], ["rows.parquet"]),
        (["x/one.json", "x/two.json", "y.json"], ["x/*"], ["x/one.json", "x/two.json"]),
        (["constraint.json", "training.json"], [], ["constraint.json", "training.json"]),
        (["script.py", "dataset_infos.json", ".hidden.json", "requirements.txt"], [], []),
    ],
)
def test_the_files_with_training_rows(
    names: list[str], declared: list[str], chosen: list[str]
) -> None:
    assert training_files(names, declared) == chosen
