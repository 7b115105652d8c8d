"""What the tests of runs share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support import slurm_cluster
from tests.support.slurm_cluster import Cluster
from tests.support.starter import Starter, starting


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts runs of small programs; leaves no process of them."""
    with starting(Workspace(tmp_path), Starter) as starter:
        yield starter


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm cluster of our own."""
    missing = slurm_cluster.missing()
    if missing:
        reason = f"no {missing[0]} here (Debian's packages slurm-wlm and munge)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, taking jobs, to which Slurm's commands lead."""
    for name, value in running_cluster.variables.items():
        monkeypatch.setenv(name, value)
    running_cluster.settle()
    return running_cluster
