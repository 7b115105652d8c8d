"""Conversations branch and come back from their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.chat import transcripts
from engine.chat.answer import Answer
from engine.chat.conversation import Conversation, Reply
from engine.chat.transcripts import Transcript
from engine.errors import Failed, Problem
from tests.support import mounts


def talked() -> Conversation:
    """Two questions in a row, both answered by A, the first also by B."""
    talk = Conversation(models={"A": "tuned", "B": "base"})
    first = talk.ask("Who are you?")
    talk.answered(first, "A", Reply("Super Nova"))
    talk.answered(first, "B", Reply("A model"))
    second = talk.ask("And who made you?")
    talk.answered(second, "A", Reply("You"))
    return talk


def said(talk: Conversation, slot: str) -> list[str]:
    return [one["content"] for one in talk.messages(slot)]


def test_each_slot_sees_its_own_answers() -> None:
    talk = talked()
    assert said(talk, "A") == ["Who are you?", "Super Nova", "And who made you?"]
    assert said(talk, "B") == ["Who are you?", "A model", "And who made you?"]
    talk.ask("Why?")
    assert said(talk, "A")[-3:] == ["And who made you?", "You", "Why?"]
    # What B never answered is not in its talk: roles have to alternate.
    assert said(talk, "B") == ["Who are you?", "A model", "Why?"]


def test_a_system_text_stands_in_front_also_an_empty_one() -> None:
    for system in ("Be kind.", ""):
        talk = Conversation(system)
        talk.ask("Hi")
        assert talk.messages("A")[0] == {"role": "system", "content": system}
    talk = Conversation()
    talk.ask("Hi")
    assert [one["role"] for one in talk.messages("A")] == ["user"]


def test_an_edited_question_is_a_branch_and_the_old_one_stays() -> None:
    talk = talked()
    talk.edit("And where are you from?")
    assert [node.question for node in talk.branch] == ["Who are you?", "And where are you from?"]
    assert talk.turn_to(1)
    assert said(talk, "A")[-1] == "And who made you?"
    assert talk.turn_to(-1)
    assert said(talk, "A")[-1] == "And where are you from?"


def test_undo_goes_back_to_the_beginning_and_no_further() -> None:
    talk = talked()
    left = [talk.undo(), talk.undo(), talk.undo()]
    assert [node.question if node else None for node in left] == [
        "And who made you?",
        "Who are you?",
        None,
    ]
    assert talk.branch == [] and talk.last is None and not talk.turn_to(1)
    assert list(talk.questions()) == ["And who made you?", "Who are you?"]


def test_asking_again_keeps_both_answers_and_the_newest_counts() -> None:
    talk = talked()
    node = talk.branch[0]
    talk.answered(node, "A", Reply("Nova"))
    assert [one.text for one in node.replies["A"]] == ["Super Nova", "Nova"]
    assert said(talk, "A")[1] == "Nova"


def test_of_an_answer_is_kept_what_one_reads_later() -> None:
    answer = Answer("Hi", 3, 0.5, 40.0, "end", "<s>…", 10, dropped=2)
    assert Reply.of(answer) == Reply("Hi", 3, 0.5, 40.0, "end", 2)


def test_a_transcript_comes_back_as_it_was(tmp_path: Path) -> None:
    talk = Conversation("Be kind.", {"A": "模型"})
    transcript = Transcript(tmp_path / "chats")
    assert not (tmp_path / "chats").exists(), "nothing was asked"
    for number, question in enumerate(("One?", "两？", "Three?")):
        node = talk.ask(question) if number < 2 else talk.edit(question)
        transcript.question(talk, node)
        reply = Reply(f"answer {number}", tokens=number, ended="end")
        talk.answered(node, "A", reply)
        transcript.reply(node, "A", reply)
    assert transcript.path is not None
    assert transcript.path.stat().st_mode & 0o777 == 0o600
    again, going_on = transcripts.resume(transcript.path)
    assert again.nodes == talk.nodes and again.at == talk.at
    assert (again.system, again.models) == ("Be kind.", {"A": "模型"})
    going_on.question(again, again.ask("Four?"))
    assert transcripts.read(transcript.path).messages("A")[-1]["content"] == "Four?"
    assert transcripts.listed(tmp_path / "chats") == [transcript.path]


def test_two_transcripts_of_one_second_are_two_files(tmp_path: Path) -> None:
    paths = set()
    for _number in range(3):
        talk, transcript = Conversation(), Transcript(tmp_path)
        transcript.question(talk, talk.ask("Hi"))
        paths.add(transcript.path)
    assert len(paths) == 3


def test_a_torn_line_loses_only_itself(tmp_path: Path) -> None:
    talk, transcript = talked(), Transcript(tmp_path)
    for node in talk.branch:
        transcript.question(talk, node)
        transcript.reply(node, "A", node.replies["A"][0])
    assert transcript.path is not None
    whole = transcript.path.read_bytes()
    transcript.path.write_bytes(whole[:-20])
    found = transcripts.read(transcript.path)
    assert [node.question for node in found.branch] == ["Who are you?", "And who made you?"]
    assert found.branch[0].reply("A") == Reply("Super Nova")
    assert found.branch[1].reply("A") is None


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"line":"chat","format":"x","models":{}}\n'])
def test_another_file_is_refused_with_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(Problem, match="Chat pane"):
        transcripts.read(path)


def test_the_open_branch_reads_as_markdown() -> None:
    talk = talked()
    talk.system = "Be kind."
    text = transcripts.markdown(talk)
    assert "- A: tuned" in text and "> Be kind." in text
    assert text.index("## Who are you?") < text.index("**B**\n\nA model") < text.index("## And")


def test_what_a_full_disk_kept_out_is_written_when_there_is_room(tmp_path: Path) -> None:
    """Nothing is missing from the file, so that the conversation can be gone on with."""

    def full() -> None:
        place = tmp_path / "full"
        mounts.small(place, 8192)
        rest = place / "rest"
        rest.write_bytes(bytes(8192))
        talk, transcript = talked(), Transcript(place / "chats", place / "chats" / "talk.jsonl")
        for node in talk.branch:
            with pytest.raises(Failed, match=r"not being written down.*room"):
                transcript.question(talk, node)
            for slot, replies in node.replies.items():
                with pytest.raises(Failed):
                    transcript.reply(node, slot, replies[0])
        assert transcript.path is not None and not transcripts.begun(transcript.path)
        rest.unlink()
        transcript.write()
        assert transcripts.read(transcript.path).nodes == talk.nodes

    mounts.apart(full)


def test_a_torn_first_line_is_passed_over(tmp_path: Path) -> None:
    talk, transcript = talked(), Transcript(tmp_path)
    transcript.question(talk, talk.branch[0])
    assert transcript.path is not None
    whole = transcript.path.read_bytes()
    transcript.path.write_bytes(whole[:30] + b"\n" + whole)
    assert transcripts.read(transcript.path).branch[0].question == "Who are you?"
