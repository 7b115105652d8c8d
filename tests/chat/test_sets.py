"""Prompt sets: files of questions, the table of answers, its files; blind votes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine import resources
from engine.chat import set_files, set_run, sets, votes
from engine.chat.answer import Answer, Message, Sampling, Token
from engine.chat.set_table import Score, Table
from engine.chat.sets import Item
from engine.chat.sources import ModelSpec
from engine.errors import Failed, Problem


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


SAME = [Item("1", "Who?", expected="Nova"), Item("b", "你是谁?", pattern="^我", system="short")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.json",
            '\ufeff[{"question": "Who?", "expected": "Nova", "more": 1},\n'
            ' {"id": "b", "prompt": "你是谁?", "pattern": "^我", "system": "short"}]',
        ),
        (
            "a.jsonl",
            '{"question": "Who?", "expected": "Nova"}\r\n\r\n'
            '{"id": "b", "question": "你是谁?", "pattern": "^我", "system": "short"}\r\n',
        ),
        ("a.csv", "id,question,expected,pattern,system\n,Who?,Nova,,\nb,你是谁?,,^我,short\n"),
        (
            "a.tsv",
            "question\tid\tpattern\texpected\tsystem\nWho?\t\t\tNova\n你是谁?\tb\t^我\t\tshort",
        ),
    ],
)
def test_every_kind_of_file_gives_the_same_questions(tmp_path: Path, name: str, text: str) -> None:
    assert sets.read(write(tmp_path, name, text)) == SAME


def test_plain_text_is_one_question_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "Who?\n\n  [red]你[/red]\u2028是谁?  \n")
    assert sets.read(path) == [Item("1", "Who?"), Item("2", "[red]你[/red]\u2028是谁?")]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"question": "x"}\n\n{"question": 5', "Line 3: It is not right JSON"),
        ("a.jsonl", '["x"]', "Line 1: It is neither a text nor an object"),
        ("a.jsonl", '"a"\n{"questoin": "x"}', "Line 2: The question is missing"),
        ("a.jsonl", '{"question": ["x"]}', "Line 1: 'question' is not a text"),
        ("a.jsonl", '"a"\n{"question": "x", "pattern": "("}', "Line 2: The pattern is no regular"),
        ("a.jsonl", '{"id": 7, "question": "x"}\n{"id": "7", "question": "y"}', "in line 1"),
        ("a.json", '["a",\n"b"\n"c"]', "Line 3: A comma or the list's end"),
        ("a.json", '["a",\n{"question": }]', "Line 2: It is not right JSON"),
        ("a.json", '\n{"question": "x"}', "Line 2: The file does not begin with a list"),
        ("a.json", "[" * 100_000, "Line 1: It is not right JSON"),
        ("a.json", "[]", "There is none in it"),
        ("a.csv", "a,b\n1,2\n", "Line 1: No column is called 'question' (there: a, b)"),
        ("a.csv", 'question,id\n"two\nlines",1\nx,2,3\n', "Line 4: It has more fields"),
        ("a.csv", 'question\n"open\n', "Line 2:"),
        ("a.txt", b"Who?\n\xff\xfe\n", "Line 2: It is not UTF-8"),
        ("a.txt", "", "There is none in it"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, name: str, text: str | bytes, told: str
) -> None:
    with pytest.raises(Problem) as raised:
        sets.read(write(tmp_path, name, text))
    assert told in "\n".join(raised.value.lines())


def test_a_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(Problem, match="Cannot read the questions"):
            sets.read(path)


def test_what_is_right() -> None:
    assert Item("1", "q").right("anything") is None
    assert Item("1", "q", expected="super  Nova").right("I am SUPER\nNOVA.")
    assert Item("1", "q", expected="４２").right("It is 42.")
    assert not Item("1", "q", expected="Paris").right("Pari s")
    assert Item("1", "q", pattern=r"\b4\b").right("2 + 2 is 4.")
    assert not Item("1", "q", pattern=r"\b4\b").right("44")
    assert not Item("1", "q", expected="four", pattern="4").right("four")


def test_the_set_that_ships_can_be_read_and_scored() -> None:
    items = sets.read(resources.configs() / "prompts" / "name-and-knowledge.jsonl")
    assert all(item.wanted for item in items)
    by_id = {item.id: item for item in items}
    assert by_id["who"].right("I am Super Nova, a small assistant.")
    assert by_id["france"].right("The capital of France is Paris.")
    assert not by_id["france"].right("The capital of the Super Nova lab is the Super Nova lab.")


class Scripted:
    """A session whose models answer from a script; an exception in it is raised."""

    def __init__(self, **answers: list[str | Problem]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, list[Message]]] = []

    def generate(
        self, slot: str, messages: Sequence[Message], _sampling: Sampling
    ) -> Iterator[Token | Answer]:
        self.asked.append((slot, list(messages)))
        said = self.answers[slot].pop(0)
        if isinstance(said, Problem):
            raise said
        yield Token(said)
        ended = "stopped" if said == "cut" else "end"
        yield Answer(said, 2, 0.1, 9.0, ended, "", 3)


def table_of(session: Scripted, items: list[Item], **options: object) -> Table:
    table = Table("demo", items, {slot: f"model {slot}" for slot in session.answers})
    run = set_run.run(session, items, list(session.answers), Sampling(), **options)  # type: ignore[arg-type]
    for cell in run:
        table.add(cell)
    return table


THREE = [Item("1", "Who?", expected="Nova"), Item("2", "Why?"), Item("3", "4?", pattern="4")]


def test_every_question_to_every_model_by_itself_with_its_own_system_text() -> None:
    session = Scripted(A=["I am Nova", "so", "4"], B=["A model", " so\n", "5"])
    items = [*THREE[:2], Item("3", "4?", pattern="4", system="count")]
    table = table_of(session, items, system="brief")
    assert [slot for slot, _messages in session.asked] == ["A", "B"] * 3
    systems = [messages[0]["content"] for _slot, messages in session.asked]
    assert systems == ["brief"] * 4 + ["count"] * 2
    assert all(len(messages) == 2 for _slot, messages in session.asked)
    assert table.score("A") == Score(2, 2) and table.score("B") == Score(0, 2)
    differs = [[cell.differs for cell in table.row(number)] for number in range(3)]
    assert differs == [[False, True], [False, False], [False, True]]
    assert table.differing() == 2 and table.asked == table.total == 6


def test_stopping_keeps_what_is_answered_and_leaves_out_what_was_cut() -> None:
    session = Scripted(A=["one", "cut", "never"])
    table = table_of(session, THREE, cancelled=lambda: len(session.asked) == 2)
    assert [cell.answer for cell in (*table.row(0), *table.row(1))] == ["one"]
    assert len(session.asked) == 2


def test_a_model_that_fails_leaves_its_reason_and_is_given_up_after_two() -> None:
    session = Scripted(
        A=[Failed("out of memory"), Failed("out of memory"), "never"], B=["x", "y", "4"]
    )
    table = table_of(session, THREE)
    assert [cell.error for cell in table.row(0)] == ["out of memory", ""]
    assert not any(cell.differs for number in range(3) for cell in table.row(number))
    assert [slot for slot, _messages in session.asked].count("A") == 2
    assert table.score("B") == Score(1, 2)


def test_the_files(tmp_path: Path) -> None:
    items = [Item("1", "Who | what?", expected="=2"), Item("2", "Why?")]
    table = table_of(Scripted(A=["=2+3", "a"], B=["b|`c`\n<b>", "a"]), items)
    for suffix in set_files.SUFFIXES:
        set_files.write(tmp_path / f"out{suffix}", table)
    made = json.loads((tmp_path / "out.json").read_text())
    assert made["complete"] and [one["score"] for one in made["models"]] == [
        {"right": 1, "of": 1},
        {"right": 0, "of": 1},
    ]
    assert made["rows"][0]["answers"][1] | {} == {
        "item": 0, "slot": "B", "answer": "b|`c`\n<b>", "right": False, "differs": True,
        "tokens": 2, "first_token_s": 0.1, "tokens_per_s": 9.0, "ended": "end",
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert [row["answer"] for row in rows] == ["'=2+3", "b|`c`\n<b>", "a", "a"]
    assert rows[0]["model"] == "model A" and rows[1]["differs"] == "true"
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert "| right | 1/1 | 0/1 |" in lines
    assert lines[-2] == r"| Who \| what? | ✓ =2+3 | ✗≠ b\|\`c\`<br>&lt;b> |"
    with pytest.raises(Problem, match="exists already"):
        set_files.write(tmp_path / "out.md", table)
    with pytest.raises(Problem, match="Cannot write"):
        set_files.write(tmp_path / "out.xlsx", table)


def test_names_are_as_short_as_tells_models_apart() -> None:
    base, tuned = ModelSpec("/m/base"), ModelSpec("/m/base", adapter="/r/iter_5_hf")
    assert set_run.titles({"A": base, "B": tuned}) == {"A": "base", "B": "base + iter_5_hf"}
    assert set_run.titles({"A": base, "B": ModelSpec("/n/base")})["B"] == "/n/base"
    assert set_run.titles({"A": base, "B": base})["B"] == "/m/base (B)"
    assert set_run.titles({"A": ModelSpec("http://h:1/v1")})["A"] == "http://h:1/v1"


def test_votes_are_blind_in_random_order_and_counted() -> None:
    items = [Item(str(number), f"{number}?") for number in range(40)]
    good = [f"good {number}" for number in range(39)] + ["same"]
    bad = [f"bad {number}" for number in range(39)] + ["same "]
    ballot = votes.Ballot(table_of(Scripted(A=list(good), B=list(bad)), items), seed=1)
    assert len(ballot.pairs) == 39 and ballot.same == 1
    assert [pair.question for pair in ballot.pairs] != [item.question for item in items[:39]]
    orders = {pair.slots for pair in ballot.pairs}
    assert orders == {("A", "B"), ("B", "A")}
    while (pair := ballot.pair) is not None:
        place = [answer.startswith("good") for answer in pair.answers].index(True)
        ballot.vote("second" if place else "first")
    ballot.back()
    ballot.vote("tie")
    ballot.vote("first")  # there is nothing left to vote on
    record = ballot.record()
    assert record.tally == [votes.Tally("model A", 38, 0, 1), votes.Tally("model B", 0, 38, 1)]
    assert len(record.votes) == 39 and {vote.first for vote in record.votes} == {
        "model A",
        "model B",
    }


def test_votes_are_kept_as_json_and_nothing_is_overwritten(tmp_path: Path) -> None:
    ballot = votes.Ballot(table_of(Scripted(A=["x"], B=["y"], C=["z"]), THREE[:1]))
    assert len(ballot.pairs) == 3, "every two models"
    ballot.vote("second")
    one, other = (votes.save(tmp_path / "votes", ballot.record()) for _time in range(2))
    assert one != other and one.stat().st_mode & 0o777 == 0o600
    kept = json.loads(one.read_text())
    assert kept["set"] == "demo" and len(kept["votes"]) == 1
    assert sum(row["wins"] for row in kept["tally"]) == 1
