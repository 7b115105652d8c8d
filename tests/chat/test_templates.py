"""The training config, read without running it, in both forms that XTuner leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.assignments import Reference
from engine.chat import templates
from engine.chat.templates import Training

# As a person writes it.
WRITTEN = """
from xtuner.utils import PROMPT_TEMPLATE, SYSTEM_TEMPLATE
prompt_template = PROMPT_TEMPLATE.internlm2_chat
SYSTEM = SYSTEM_TEMPLATE.alpaca
llm = dict(type=AutoModel.from_pretrained, trust_remote_code=True)
model = dict(type=SupervisedFinetune, llm=llm)
data = dict(template_map_fn=dict(type=template_map_fn_factory, template=prompt_template))
train_dataloader = dict(batch_size=batch_size * 2, dataset=data)
custom_hooks = [dict(type=DatasetInfoHook), dict(type=EvaluateChatHook, system=SYSTEM)]
if use_varlen_attn:
    custom_hooks += [dict(type=Varlen)]
"""
# As mmengine writes it out.
DUMPED = """
SYSTEM = 'xtuner.utils.SYSTEM_TEMPLATE.alpaca'
model = dict(llm=dict(trust_remote_code=False))
train_dataloader = dict(dataset=dict(template_map_fn=dict(
    template='xtuner.utils.PROMPT_TEMPLATE.qwen_chat',
    type='xtuner.dataset.map_fns.template_map_fn_factory')))
custom_hooks = [dict(system='You are kind.', type='xtuner.engine.hooks.EvaluateChatHook')]
"""


def test_both_forms() -> None:
    assert templates.read(WRITTEN) == Training(
        "internlm2_chat", Reference("SYSTEM_TEMPLATE", "alpaca"), True
    )
    assert templates.read(DUMPED) == Training("qwen_chat", "You are kind.", False)


def test_a_template_of_the_configs_own() -> None:
    found = templates.read('prompt_template = dict(INSTRUCTION="Q {input} A", STOP_WORDS=["Q"])')
    assert found is not None
    assert found.template == {"INSTRUCTION": "Q {input} A", "STOP_WORDS": ["Q"]}


@pytest.mark.parametrize("text", ["x = (", "\0", "(" * 5000])
def test_what_is_no_python_is_no_config(text: str) -> None:
    assert templates.read(text) is None


def test_nothing_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    templates.read(f"open({str(trap)!r}, 'w')\nSYSTEM = open({str(trap)!r}, 'w').name")
    assert not trap.exists()


def test_the_adapters_config_comes_before_the_models(tmp_path: Path) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    for folder in (model, adapter):
        folder.mkdir()
    assert templates.for_model(model, adapter) is None
    (model / "xtuner_config.py").write_text("SYSTEM = 'model'")
    found = templates.for_model(model, adapter)
    assert found is not None and found.system == "model"
    (adapter / "xtuner_config.py").write_text("SYSTEM = 'adapter'")
    found = templates.for_model(model, adapter)
    assert found is not None and found.system == "adapter"


def test_xtuners_own_templates_are_read_as_xtuner_has_them() -> None:
    from xtuner.utils.templates import PROMPT_TEMPLATE, SYSTEM_TEMPLATE

    prompts, systems = templates.of_xtuner()
    assert {name: dict(value) for name, value in PROMPT_TEMPLATE.items()} == prompts
    assert dict(SYSTEM_TEMPLATE) == systems
