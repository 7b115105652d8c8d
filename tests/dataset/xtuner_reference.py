"""What XTuner itself makes of dataset files: a program, since it imports XTuner.

Reads a list of jobs as JSON on stdin; prints a list of results as JSON.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import numpy
    from datasets import load_dataset
    from mmengine.dataset import sampler
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer
    from xtuner.dataset import process_hf_dataset
    from xtuner.dataset.map_fns import DATASET_FORMAT_MAPPING, template_map_fn_factory
    from xtuner.utils import PROMPT_TEMPLATE

    results = []
    for job in json.load(sys.stdin):
        tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="right")
        numpy.random.seed(job["seed"])
        dataset = process_hf_dataset(
            dataset=load_dataset("json", data_files={"train": job["path"]}),
            tokenizer=tokenizer,
            max_length=job["max_length"],
            dataset_map_fn=DATASET_FORMAT_MAPPING.get(job["shape"]),
            template_map_fn=template_map_fn_factory(PROMPT_TEMPLATE[job["template"]]),
            remove_unused_columns=True,
            shuffle_before_pack=True,
            pack_to_max_length=job["pack"],
            map_num_proc=job["map_num_proc"],
        )
        sampler.get_dist_info = lambda gpus=job["gpus"]: (0, gpus)
        loader = DataLoader(
            dataset,
            batch_size=job["batch_size"],
            sampler=sampler.DefaultSampler(dataset, shuffle=True),
        )
        result = {"samples": len(dataset), "steps": len(loader)}
        if not job["pack"]:
            result |= {name: list(dataset[name]) for name in ("input_ids", "labels")}
            result["text"] = [tokenizer.decode(ids) for ids in result["input_ids"]]
        results.append(result)
    json.dump(results, out)


if __name__ == "__main__":
    main()
