"""What the Export pane does with a finished model: choices, GGUF files, uploads; failures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.export import gguf, job, plan
from engine.export.verify import Compared, Verified
from engine.settings import Settings
from engine.workspace import Workspace
from tests.export.conftest import save
from tests.export.test_handover import CONVERTER, QUANTIZER
from tests.support.driver import Driver, opened
from tests.support.hub_server import Hub, serving
from tests.support.run_files import write_run
from tui.palette import actions


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Workspace:
    """A run whose model is made and verified already."""
    made = Workspace(tmp_path)
    made.remember(tab="export")
    run = write_run(made, "run-01", "finished", step=4, saved=(4,))
    adapter = run / "iter_4-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    save(adapter / "adapter_model.safetensors", {})
    merged = shutil.copytree(tiny_model, made.models / "run-01-iter_4")
    compared = [Compared("你是谁？", "一个助手", "一个助手")]
    plan.keep(merged, Verified(True, compared, 0.1, 0.5, 9.0, "bfloat16"))
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / gguf.CONVERTER).write_text(CONVERTER)
    (folder / gguf.QUANTIZER).write_text(QUANTIZER)
    (folder / gguf.QUANTIZER).chmod(0o755)
    return Settings(llama_cpp=str(folder))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    with serving(hub):
        for name, value in hub.environment(str(tmp_path / "caches")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield hub


async def test_a_gguf_file_with_its_size_said_before(
    workspace: Workspace, settings: Settings
) -> None:
    async with opened(workspace, settings=settings) as screen:
        await screen.shows("▸ Enter  chat with the model", "they agree on 1 prompt")
        await screen.press("f")
        await screen.shows("GGUF file", "q4_k_m", "≈ ", "are free")
        await screen.type("q4_k_m")
        await screen.press("enter")
        await screen.shows("✓ GGUF file", "run-01-iter_4-Q4_K_M.gguf")
        await screen.press("f")
        await screen.shows("GGUF file", "are free")
        await screen.type("bf16")
        await screen.press("enter")
        await screen.shows("llama.cpp could not make the file", "Architecture not supported")
    assert (workspace.models / "run-01-iter_4-Q4_K_M.gguf").read_text() == "GGUF Q4_K_M"
    # What went wrong is still known to a new window.
    async with opened(workspace, settings=settings) as screen:
        await screen.shows("✗ GGUF file: llama.cpp could not make the file.")


async def test_without_llama_cpp_it_is_said_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    async with opened(workspace) as screen:
        await screen.shows("▸ Enter  chat with the model")
        await screen.press("f")
        await screen.shows("llama.cpp is not here", "llama_cpp")


async def test_an_upload_is_private_unless_it_is_said_otherwise(
    workspace: Workspace, hub: Hub
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("▸ Enter  chat with the model")
        await screen.press("u")
        await screen.shows("repository", "to upload")
        await screen.erase()
        await screen.type("nonsense")
        await screen.press("enter")
        await screen.shows("nonsense is not a repository")
        await screen.erase()
        await screen.type("hf:me/helper")
        await screen.press("enter")
        await screen.shows("Shall everybody see hf:me/helper?", "No: it is private.")
        await screen.press("enter")
        await screen.shows("✓ Upload", f"{hub.address}/me/helper")
    assert hub.private == {"me/helper"}
    assert "config.json" in hub.repos["models", "me/helper"]
    assert plan.choices(workspace).target == "hf:me/helper"


async def test_what_to_do_about_a_coarse_type_is_told_by_the_panes_keys(
    workspace: Workspace,
) -> None:
    merged = workspace.models / "run-01-iter_4"
    answers = [Compared("你是谁？", "一个助手", "一个助手")]
    why = "Merge to float32 or float16."
    plan.keep(merged, Verified(True, answers, 0.1, 0.5, 9.0, "bfloat16", why, coarse=True))
    async with opened(workspace) as screen:
        await screen.shows("▸ Enter  chat with the model")
        await screen.press("k")
        text = await screen.shows(why, "o chooses another type; r on Merge", "一个助手")
        assert "--dtype" not in text


async def test_choices_are_remembered(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.shows("▸ Enter  chat with the model")
        for what, value in (("type", "fp32"), ("compute", "cpu")):
            await screen.press("o")
            await screen.shows("How models are made")
            await screen.type(what)
            await screen.press("enter")
            await screen.shows(value)
            await screen.type(value)
            await screen.press("enter")
            await screen.hides("How models are made")
        await screen.press("o")
        await screen.type("folder")
        await screen.press("enter")
        await screen.shows("Folder for finished models")
        await screen.erase()
        await screen.type("./finished")
        await screen.press("enter")
        # Nothing lies there yet: it would have to be merged anew.
        await screen.shows("Enter  merge into the base model")
    chosen = json.loads((workspace.state / plan.CHOICES).read_text())
    assert chosen == {"dtype": "fp32", "device": "cpu", "out": "./finished"}


@pytest.mark.parametrize(
    ("gone", "line", "lacks"),
    [
        ("models/run-01-iter_4/model.safetensors", "Merge        models/run-01-iter_4", "weights"),
        ("models/run-01-iter_4/config.json", "Merge        models/run-01-iter_4", "config.json"),
        (
            "runs/run-01/iter_4-adapter/adapter_model.safetensors",
            "Adapter      runs/run-01/iter_4-adapter",
            "weights (adapter_model.safetensors)",
        ),
    ],
)
async def test_of_what_somebody_took_a_part_away_it_is_said_and_r_makes_it_anew(
    workspace: Workspace, gone: str, line: str, lacks: str
) -> None:
    (workspace.root / gone).unlink()
    async with opened(workspace) as screen:
        await screen.shows(f"✗  {line} is not whole", f"It has no {lacks}", "▸ r  make it anew")
        assert "r step again" in screen.keys_line()
        await screen.press("enter")  # would replace what is there
        await screen.shows("is not whole   Esc", "r on its step makes it anew.")
        await screen.press("escape", "a")
        await screen.shows("is not whole   Esc")
        await screen.press("escape", "f")
        if "adapter" not in gone:
            await screen.shows("First the model has to be made.")


async def test_what_was_cut_off_is_said_and_can_be_begun_again(workspace: Workspace) -> None:
    shutil.rmtree(workspace.models)
    found = plan.plan(workspace.runs / "run-01" / "iter_4.pth", workspace)
    order = plan.order(found, ("convert",), workspace=workspace, settings=Settings())
    with job.begun(workspace, order):
        pass  # whoever did it was killed
    async with opened(workspace) as screen:
        await screen.shows("✗ Adapter was cut off, nothing half was left: Enter goes on.")


KEYS = {
    "checkpoint": "c checkpoint",
    "base": "b base model",
    "all": "a all steps",
    "again": "r step again",
    "options": "o type, device, folder",
    "copy": "y copy a command",
    "gguf": "f GGUF file",
    "upload": "u upload",
    "cancel": "x cancel",
}
MAKING = {"checkpoint", "base", "options"}
HANDING = {"checkpoint", "copy", "gguf", "upload"}


@pytest.mark.parametrize(
    ("done", "rows"),
    [
        # Of the five rows, the keys that are told with the cursor on each.
        ((), [MAKING | {"all"}] * 5),
        (("convert",), [MAKING | {"all"} | ({"again"} if at == 1 else set()) for at in range(5)]),
        (("convert", "merge"), [MAKING, *[MAKING | {"again"}] * 2, MAKING, HANDING]),
        (("convert", "merge", "verify"), [MAKING, *[MAKING | {"again"}] * 3, HANDING]),
    ],
)
async def test_the_keys_offered_are_those_of_the_step_under_the_cursor(
    workspace: Workspace, done: tuple[str, ...], rows: list[set[str]]
) -> None:
    merged = workspace.models / "run-01-iter_4"
    if "verify" not in done:
        merged.with_name(merged.name + plan.VERIFIED).unlink()
    if "merge" not in done:
        shutil.rmtree(merged)
    if "convert" not in done:
        shutil.rmtree(workspace.runs / "run-01" / "iter_4-adapter")
    async with opened(workspace) as screen:
        await screen.shows("run-01 / iter_4.pth")
        await screen.press("g")
        for keys in rows:
            await screen.until(lambda _, keys=keys: keys == offered(screen))
            assert all(KEYS[key] in screen.keys_line() for key in keys), "the line is cut"
            # The palette has what can be done, wherever the cursor is.
            assert in_palette(screen) == keys | MAKING | (HANDING if "merge" in done else set())
            await screen.press("down")


def offered(screen: Driver) -> set[str]:
    """The actions whose keys stand in the keys line."""
    return {action for action, key in KEYS.items() if key in screen.keys_line()}


def in_palette(screen: Driver) -> set[str]:
    """The actions that the palette has."""
    found = {one.binding.id for ones in actions(screen.app).values() for one in ones}
    return {action for action in KEYS if f"export.{action}" in found}


async def test_the_keys_screen_has_what_the_last_step_does_wherever_the_cursor_is(
    workspace: Workspace,
) -> None:
    async with opened(workspace, (140, 80)) as screen:  # high enough for all of them
        await screen.shows("▸ Enter  chat with the model")
        await screen.press("g")
        await screen.until(lambda _: offered(screen) == MAKING)
        await screen.press("f1")
        text = await screen.shows("In this pane")
        for key in HANDING | MAKING:
            letter, _, what = KEYS[key].partition(" ")
            assert re.search(rf"{letter} +{what}", text), key


async def test_while_a_step_is_at_work_the_keys_are_those_that_work_then(
    workspace: Workspace,
) -> None:
    found = plan.plan(workspace.runs / "run-01" / "iter_4.pth", workspace)
    order = plan.order(found, ("gguf",), workspace=workspace, settings=Settings())
    with job.begun(workspace, order):
        async with opened(workspace) as screen:
            await screen.until(lambda _: offered(screen) == {"checkpoint", "copy", "cancel"})
            assert in_palette(screen) == offered(screen)
            await screen.press("g")
            await screen.until(lambda _: offered(screen) == {"checkpoint", "cancel"})
            assert in_palette(screen) == {"checkpoint", "copy", "cancel"}
            for key in "borfu":  # the others say why
                await screen.press(key)
                await screen.shows("A step is at work.", "Wait until it is done, or cancel it")
                await screen.press("escape")
                await screen.hides("put away")


async def test_a_key_that_means_nothing_yet_says_why(workspace: Workspace) -> None:
    shutil.rmtree(workspace.models / "run-01-iter_4")
    async with opened(workspace) as screen:
        await screen.shows("▸ Enter  merge into the base model")
        for key in "yfu":
            await screen.press(key)
            await screen.shows("First the model has to be made.", "put away")
            await screen.press("escape")
            await screen.hides("put away")
        await screen.press("G", "r")
        await screen.shows("There is nothing to do again here")
