"""What XTuner itself makes of datasets: a program, since it imports XTuner.

Reads a list of jobs as JSON on stdin; prints a list of results as JSON. A job's
dataset is built as the trainer builds it: from a config file, whose map function
lies beside it or is one of XTuner's.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

CONFIG = """\
from datasets import {loader}
from transformers import AutoTokenizer
from xtuner.dataset import process_hf_dataset
from xtuner.dataset.map_fns import template_map_fn_factory
from xtuner.utils import PROMPT_TEMPLATE
{imports}

dataset = dict(
    type=process_hf_dataset,
    dataset=dict(type={loader}, **{load_args!r}),
    tokenizer=dict(
        type=AutoTokenizer.from_pretrained,
        pretrained_model_name_or_path={model!r},
        padding_side="right",
    ),
    max_length={max_length},
    dataset_map_fn={map_fn},
    template_map_fn={template_map_fn},
    remove_unused_columns=True,
    shuffle_before_pack=True,
    pack_to_max_length={pack},
    map_num_proc={map_num_proc},
)
"""


def write_config(job: dict, folder: Path) -> Path:
    """The config of `job`, and its map module where it needs one."""
    name, module = job["map_fn"], job["map_module"]
    if job["map_source"]:
        (folder / f"{module}.py").write_text(job["map_source"], encoding="utf-8")
    template = f"dict(type=template_map_fn_factory, template=PROMPT_TEMPLATE.{job['template']})"
    config = folder / "config.py"
    text = CONFIG.format(
        imports=f"from {module} import {name}" if name else "",
        template_map_fn=template if job["templated"] else None,
        **job,
    )
    config.write_text(text, encoding="utf-8")
    return config


def build(job: dict) -> object:
    """The dataset of `job`, as ``xtuner.tools.train`` builds it."""
    from mmengine.config import Config
    from xtuner.registry import BUILDER
    from xtuner.tools.train import register_function

    from engine.train.entry import find_beside

    with tempfile.TemporaryDirectory() as folder:
        config = write_config(job, Path(folder))
        before = [*sys.path]
        find_beside(config)
        loaded = Config.fromfile(config)
        register_function(loaded._cfg_dict)
        dataset = BUILDER.build(loaded.dataset)
        # The next job's module has the same name.
        sys.path[:] = before
        sys.modules.pop("map_module", None)
    return dataset


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import numpy
    from mmengine.dataset import sampler
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    results = []
    tokenizers: dict = {}
    for job in json.load(sys.stdin):
        numpy.random.seed(job["seed"])
        dataset = build(job)
        sampler.get_dist_info = lambda gpus=job["gpus"]: (0, gpus)
        loader = DataLoader(
            dataset,
            batch_size=job["batch_size"],
            sampler=sampler.DefaultSampler(dataset, shuffle=True),
        )
        result = {"samples": len(dataset), "steps": len(loader)}
        if not job["pack"]:
            if job["model"] not in tokenizers:
                tokenizers[job["model"]] = AutoTokenizer.from_pretrained(job["model"])
            result |= {name: list(dataset[name]) for name in ("input_ids", "labels")}
            result["text"] = [tokenizers[job["model"]].decode(ids) for ids in result["input_ids"]]
        results.append(result)
    json.dump(results, out)


if __name__ == "__main__":
    main()
