"""What the form knows: every setting explained, presets written out."""

from __future__ import annotations

import pytest

from engine.config import references
from engine.config.known import fields, vocabulary
from engine.config.known.field_table import TABLE, find
from engine.config.stock import catalogue
from engine.config.stock.outline import Outline
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.settings import Settings

BLOCKS = """
from peft import LoraConfig
resume = False
batch_size = 2
max_length = 64
model = dict(lora=dict(type=LoraConfig, r=8, lora_alpha=16), llm=dict(torch_dtype=None))
optim_wrapper = dict(type=AmpOptimWrapper, clip_grad=dict(max_norm=1))
train_dataloader = dict(batch_size=batch_size, dataset=dict(max_length=max_length))
randomness = dict(seed=None)
"""


def test_in_the_whole_catalogue_no_key_is_taken_for_a_misspelt_one() -> None:
    for entry in catalogue.load(Settings()):
        outline = Outline(entry.path.read_text(encoding="utf-8"))
        for place in vocabulary.BY_PLACE:
            block: object = {name: outline.get(name) for name in outline.names}
            for part in place.split("."):
                block = block.get(part) if isinstance(block, dict) else None
            keys = block if isinstance(block, dict) else ()
            assert not list(vocabulary.misspelt(place, keys)), (entry.name, place)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("xtuner.model", "SupervisedFinetune"),
        ("xtuner.dataset", "process_hf_dataset"),
        ("xtuner.dataset.preference_dataset", "build_preference_dataset"),
        ("xtuner.engine.hooks", "EvaluateChatHook"),
        ("mmengine.hooks", "LoggerHook"),
        ("mmengine.hooks", "CheckpointHook"),
    ],
)
def test_the_vocabulary_is_that_of_the_installed_libraries(module: str, name: str) -> None:
    signature = references.signature(module, name)
    assert signature is not None
    assert set(signature.names) - {"self"} == vocabulary.BY_TYPE[name]


def test_what_reads_a_block_without_a_class_takes_what_the_vocabulary_says() -> None:
    log = references.signature("mmengine.runner", "LogProcessor")
    clip = references.signature("torch.nn.utils.clip_grad", "clip_grad_norm_")
    loader = references.signature("torch.utils.data", "DataLoader")
    setup = references.signature("mmengine.utils.dl_utils.setup_env", "set_multi_processing")
    assert log and clip and loader and setup
    known = vocabulary.BY_PLACE
    assert {*log.names, "type"} - {"self"} == known["log_processor"]
    assert {*clip.names, "type", "clip_value"} - {"parameters"} == known["optim_wrapper.clip_grad"]
    own = {"num_batch_per_epoch"}  # taken away by mmengine
    inner = {"self", "shuffle", "generator", "in_order"}
    assert {*loader.names, *own} - inner == known["train_dataloader"]
    assert set(setup.names) - {"distributed"} == known["env_cfg.mp_cfg"]


def test_every_setting_is_explained() -> None:
    names = [name for known in TABLE for name in known.names]
    assert len(names) == len(set(names))
    assert len(TABLE) > 90
    for known in TABLE:
        assert known.help.endswith("."), known.name
        assert (known.low is None) == (known.high is None)
    effects = [known for known in TABLE if fields.effects(known)]
    assert len(effects) > 70
    assert find("alpaca_en.map_num_proc") is find("map_num_proc") is not None
    assert find("no_such_setting") is None


def test_settings_at_their_default_are_offered_and_can_be_set() -> None:
    source = ConfigSource(BLOCKS)
    unset = {one.name: one for one in fields.fields(source) if not one.line}
    assert {"model.llm.attn_implementation", "model.lora.use_dora", "work_dir"} <= set(unset)
    assert unset["model.lora.use_dora"].default == "False"
    assert "resume" not in unset and "randomness.seed" not in unset
    fields.assign(source, "model.lora.use_dora", "True")
    assert source.get("model.lora.use_dora") is True
    fields.assign(source, "model.llm.attn_implementation", "sdpa")
    assert source.get("model.llm.attn_implementation") == "sdpa"


@pytest.mark.parametrize(
    ("key", "typed", "code", "imported"),
    [
        ("visualizer", "tensorboard", "TensorboardVisBackend", "mmengine.visualization"),
        ("visualizer", "swanlab", "SwanlabVisBackend", "swanlab.integration.mmengine"),
        ("optim_wrapper.type", "OptimWrapper", "OptimWrapper", "mmengine.optim"),
    ],
)
def test_a_preset_is_written_with_its_imports(
    key: str, typed: str, code: str, imported: str
) -> None:
    source = ConfigSource(BLOCKS)
    fields.assign(source, key, typed)
    assert code in source.code(key)
    assert f"from {imported} import" in source.text and source.knows(code)


def test_reset_goes_back_to_the_origin() -> None:
    source, origin = ConfigSource(BLOCKS), ConfigSource(BLOCKS)
    source.set("max_length", 128)
    source.set("model.lora.use_dora", True)
    fields.reset(source, "max_length", origin)
    fields.reset(source, "model.lora.use_dora", origin)
    assert source.text == BLOCKS
    with pytest.raises(Problem, match="copied from"):
        fields.reset(source, "max_length", None)
