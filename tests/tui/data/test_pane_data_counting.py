"""Which rows are counted together."""

from __future__ import annotations

from types import SimpleNamespace

from engine.dataset.files.rows import Row
from tui.panes.data.counting import AT_ONCE, Counting
from tui.panes.data.facts import Facts


class OneThread:
    """A host that does at once what it is given; its own app."""

    def __init__(self):
        self.app = self

    def run_worker(self, work, **_options):
        work()

    def call_from_thread(self, call, *arguments):
        call(*arguments)


def counted(rows):
    """The sizes of the requests for `rows`, and what is known of them then."""
    requests, facts = [], Facts()

    def tokens(values, _shape):
        requests.append(len(values))
        return [len(value) for value in values]

    eyes = SimpleNamespace(open=True, wished=("model", "", 9), tokens=tokens)
    Counting(OneThread(), eyes, facts, lambda _row: None).want(rows, "text")
    return requests, [facts.tokens(row.index) for row in rows]


def row(number, text, problem=None):
    return Row(number, None, text, problem)


def test_the_rows_in_view_are_one_request():
    rows = [row(number, "尖" * (number + 1)) for number in range(40)]
    assert counted(rows) == ([40], [number + 1 for number in range(40)])


def test_a_broken_row_is_not_asked_for():
    assert counted([row(0, "a"), row(1, None, "a comma is missing"), row(2, "bb")]) == (
        [2],
        [1, None, 2],
    )


def test_a_large_row_does_not_hold_up_the_others():
    rows = [row(0, "a"), row(1, "b" * AT_ONCE), row(2, "c")]
    assert counted(rows) == ([1, 1, 1], [1, AT_ONCE, 1])
