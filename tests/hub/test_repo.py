from __future__ import annotations

from pathlib import Path

import pytest

from engine.hub.repo import Repo, cached, parse, training_files


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


SHA = "0123456789" * 4


@pytest.mark.parametrize(
    ("path", "short"),
    [
        (
            f"/h/.cache/huggingface/hub/datasets--me--names/snapshots/{SHA}/data/train.json",
            "hf:me/names@01234567",
        ),
        (f"/h/hub/datasets--me--a--b/snapshots/{SHA}", "hf:me/a--b@01234567"),
        (f"/h/hub/datasets--me--names/blobs/{SHA}", "hf:me/names"),
        ("/h/.cache/modelscope/datasets/me--names.v2/snapshots/master/train.csv", "ms:me/names.v2"),
        ("/h/ms/datasets/me--names/snapshots/v1.2/train.csv", "ms:me/names@v1.2"),
        ("/h/.cache/modelscope/hub/datasets/me/names___v2/train.csv", "ms:me/names.v2"),
        ("/h/work/data/train.json", ""),
        ("/h/datasets/me/names/train.json", ""),
        (f"/h/hub/models--me--names/snapshots/{SHA}/data.json", ""),
    ],
)
def test_what_a_client_has_fetched_is_known_by_its_path(path: str, short: str) -> None:
    found = cached(Path(path))
    assert (found.short if found is not None else "") == short


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
