"""Several processes: parts in order, cancelled, and one that dies."""

from __future__ import annotations

import os

import pytest

from engine.dataset.checking.parallel import in_parts
from engine.errors import Failed


def work(start, end, each):
    for row in range(start, end):
        each(row)
    return os.getpid(), list(range(start, end))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_parts_come_in_order(processes):
    seen = []
    parts = list(in_parts(5000, work, seen.append, lambda: False, processes))
    assert [row for _pid, rows in parts for row in rows] == list(range(5000))
    assert (os.getpid() in {pid for pid, _rows in parts}) == (processes == 1)
    assert seen == sorted(seen) and all(0 <= done <= 5000 for done in seen)


def test_no_rows_are_no_parts():
    assert list(in_parts(0, work, print, lambda: False, 2)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_cancelling_ends_what_is_under_way(processes):
    def for_ever(start, end, each):
        while True:
            each(start)

    polls = iter(range(100))
    with pytest.raises(Failed, match="Stopped"):
        list(in_parts(100, for_ever, lambda done: None, lambda: next(polls) > 3, processes))


def test_a_process_that_dies_is_told():
    def dies(start, end, each):
        os._exit(9)

    with pytest.raises(Failed) as caught:
        list(in_parts(100, dies, lambda done: None, lambda: False, 2))
    assert "memory" in caught.value.why
