"""What a trainer's start leaves out, and whether it is there when it is asked for.

Run as a program: torch and XTuner stay out of the tests' process. Prints a JSON object.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from importlib import import_module
from typing import Any

from engine.train import imports, late


def main() -> None:
    """Import as the trainer does, then ask for what was put off."""
    facts: dict[str, Any] = {}
    with imports.lightly():
        from engine.train import shims

        shims.apply()
        import xtuner.tools.train  # noqa: F401
    facts["late"] = sorted(name for name in late.NAMES if is_late(name))
    facts["compiler"] = "torch._inductor.compile_fx" in sys.modules
    facts["structure"] = same_structure()
    facts["optimizer"] = script_with_optimizer()
    facts["sleeps"] = [epochs(), beside_a_child(epochs)]
    facts["texts"] = texts()
    facts["matched"] = match()
    facts["others"] = use_others()
    facts["compiles"] = compiles()
    facts["late then"] = sorted(name for name in late.NAMES if is_late(name))
    print(json.dumps(facts))


def is_late(name: str) -> bool:
    """Whether a module is imported and has not run."""
    return type(sys.modules.get(name)) is late.LateModule


def same_structure() -> bool:
    """Whether transformers knows its models as it does without our memory."""
    from pathlib import Path

    import transformers
    from transformers.utils import import_utils

    look: Any = import_utils.create_import_structure_from_path
    folder = str(Path(transformers.__file__).parent / "models")
    kept = look(folder)
    import_utils.create_import_structure_from_path = look.__wrapped__
    return bool(kept == look.__wrapped__(folder)) and len(kept) > 100


def script_with_optimizer() -> float:
    """A weight after a step that TorchScript makes with a class that was not compiled."""
    import torch
    from torch.distributed.optim.functional_sgd import _FunctionalSGD

    def stepped(weight: torch.Tensor, gradients: list[torch.Tensor | None]) -> torch.Tensor:
        optimizer = _FunctionalSGD([weight], lr=0.5)
        optimizer.step(gradients)
        return weight

    made: torch.Tensor = torch.jit.script(stepped)(torch.ones(1), [torch.ones(1)])
    return made.item()


def epochs() -> list[float]:
    """The sleeps between three epochs of mmengine's endless iterator."""
    from mmengine.runner.loops import _InfiniteDataloaderIterator
    from torch.utils.data import DataLoader

    slept: list[float] = []
    real, time.sleep = time.sleep, slept.append
    try:
        batches = _InfiniteDataloaderIterator(DataLoader([1, 2]))
        seen = [int(next(batches)) for _number in range(6)]
    finally:
        time.sleep = real
    assert seen == [1, 2, 1, 2, 1, 2]
    return slept


def beside_a_child(do: Any) -> Any:
    """What `do` answers while this process has a child."""
    over = multiprocessing.Event()
    child = multiprocessing.Process(target=over.wait)
    child.start()
    answer = do()
    over.set()
    child.join()
    return answer


def texts() -> bool:
    """Whether a config is laid out as yapf does it, also after a change."""
    from mmengine import Config
    from yapf.yapflib.yapf_api import FormatCode

    config = Config({"one": {"a": 1}})
    first = config.pretty_text, config.pretty_text
    config.one.a = 2
    style = {"based_on_style": "pep8"}
    return first[0] == first[1] == FormatCode("one=dict(a=1)", style_config=style)[0] and (
        config.pretty_text == first[0].replace("1", "2")
    )


def match() -> Any:
    """Boxes matched by the function that transformers has a stand-in for."""
    from transformers.loss import loss_for_object_detection

    found = loss_for_object_detection.linear_sum_assignment([[4, 1], [2, 3]])
    return [one.tolist() for one in found]


def use_others() -> list[bool]:
    """The rest of what was late, used as its importers would."""
    from mmengine._strategy import deepspeed as strategy
    from xtuner.dataset import refcoco_json

    polygon = refcoco_json.Polygon([[0, 0], [0, 1], [1, 1]])
    from matplotlib.patches import Polygon

    return [
        type(polygon) is Polygon,
        callable(refcoco_json.plt.gca),
        callable(refcoco_json.io.imread),
        callable(strategy.deepspeed.initialize),
    ]


def compiles() -> bool:
    """Whether DeepSpeed would build what it has for a CPU when it starts."""
    backend = import_module("deepspeed.comm.torch")
    return backend.build_shm_op() is not None


if __name__ == "__main__":
    main()
