"""InternLM2.5-7B-Chat learns from your own conversations: QLoRA, an adapter on a 4-bit base.

Point it at your data and model, and it is ready:

    tunedeck config copy internlm2_5_chat_7b_qlora_custom_sft_e3 mine.py \
        --data FILE --model internlm/internlm2_5-7b-chat

Data that needs no mapping is a JSON array (or JSON Lines) of such rows:

[{
    "conversation": [
        {
            "system": "You are a helpful assistant.",
            "input": "Who are you?",
            "output": "I am Super Nova."
        }
    ]
},
...
]

One GPU of 16 GB is enough (12 to 14 GB at these settings); 24 GB and more are better
served by the LoRA config beside it, which is faster. DeepSpeed gains nothing on one GPU.
"""

import torch
from datasets import load_dataset
from mmengine.dataset import DefaultSampler
from mmengine.hooks import (
    CheckpointHook,
    DistSamplerSeedHook,
    IterTimerHook,
    LoggerHook,
    ParamSchedulerHook,
)
from mmengine.optim import AmpOptimWrapper, CosineAnnealingLR, LinearLR
from peft import LoraConfig
from torch.optim import AdamW
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from xtuner.dataset import process_hf_dataset
from xtuner.dataset.collate_fns import default_collate_fn
from xtuner.dataset.map_fns import template_map_fn_factory
from xtuner.engine.hooks import (
    DatasetInfoHook,
    EvaluateChatHook,
    VarlenAttnArgsToMessageHubHook,
)
from xtuner.engine.runner import TrainLoop
from xtuner.model import SupervisedFinetune
from xtuner.utils import PROMPT_TEMPLATE

#######################################################################
#                          PART 1  Settings                           #
#######################################################################
# Model
pretrained_model_name_or_path = "internlm/internlm2_5-7b-chat"
use_varlen_attn = False  # True needs flash-attn: packed rows then do not see one another

# Data
data_path = "/path/to/json/file.json"
prompt_template = PROMPT_TEMPLATE.internlm2_chat
max_length = 2048
pack_to_max_length = True
# Processes that tokenize. Each packs its own piece of the rows and drops the
# rest that fills no sample: with few rows, more processes mean fewer samples.
map_num_proc = 1

# Scheduler & Optimizer
batch_size = 1  # per_device
accumulative_counts = 4  # samples for each step: 1 GPU * batch_size * accumulative_counts
dataloader_num_workers = 0
max_epochs = 3
optim_type = AdamW
lr = 2e-4
betas = (0.9, 0.999)
weight_decay = 0
max_norm = 1  # grad clip
warmup_steps = 5  # counted, not a share of the run: with little data a share rounds to nothing

# Memory for speed
# True computes activations twice to keep few of them. At 7B with 2048 tokens, False is
# 1.4 times (4-bit: 1.6 times) as fast and takes about 16 GB more.
use_activation_checkpointing = True

# Save
save_steps = 200
# Maximum checkpoints to keep (-1 means unlimited). The oldest goes before the new one
# is written: with 1, a save that fails leaves none.
save_total_limit = 2

# Evaluate the generation performance during the training
evaluation_freq = save_steps
SYSTEM = ""
evaluation_inputs = ["你是谁？", "Who are you?", "请给我介绍五个上海的景点"]
evaluation_tokens = 128  # the longest answer

#######################################################################
#                      PART 2  Model & Tokenizer                      #
#######################################################################
tokenizer = dict(
    type=AutoTokenizer.from_pretrained,
    pretrained_model_name_or_path=pretrained_model_name_or_path,
    trust_remote_code=True,
    padding_side="right",
)

# The base stays in the type it loads in. XTuner by itself does not know this line: it turns
# what is not quantised into float32, which takes twice the memory and is slower.
keep_base_dtype = True
# torch makes kernels for the layers: a step takes 0.75 of the time, the first one half a minute
# more (so only where 200 steps are left). XTuner by itself does not know this line either.
compile_layers = True
model = dict(
    type=SupervisedFinetune,
    use_varlen_attn=use_varlen_attn,
    use_activation_checkpointing=use_activation_checkpointing,
    llm=dict(
        type=AutoModelForCausalLM.from_pretrained,
        pretrained_model_name_or_path=pretrained_model_name_or_path,
        trust_remote_code=True,
        torch_dtype=torch.bfloat16,
        # Without it InternLM2 computes attention the slow way: its code defaults to eager.
        attn_implementation="sdpa",
        quantization_config=dict(
            type=BitsAndBytesConfig,
            load_in_4bit=True,
            load_in_8bit=False,
            llm_int8_threshold=6.0,
            llm_int8_has_fp16_weight=False,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_quant_type="nf4",
        ),
    ),
    lora=dict(
        type=LoraConfig,
        r=64,
        lora_alpha=16,
        lora_dropout=0.1,
        # Every linear layer but the output head: that one is big, and XTuner would take it too.
        target_modules=["wqkv", "wo", "w1", "w2", "w3"],
        bias="none",
        task_type="CAUSAL_LM",
    ),
)

#######################################################################
#                      PART 3  Dataset & Dataloader                   #
#######################################################################
train_dataset = dict(
    type=process_hf_dataset,
    dataset=dict(type=load_dataset, path="json", data_files=dict(train=data_path)),
    tokenizer=tokenizer,
    max_length=max_length,
    dataset_map_fn=None,
    template_map_fn=dict(type=template_map_fn_factory, template=prompt_template),
    remove_unused_columns=True,
    shuffle_before_pack=True,
    pack_to_max_length=pack_to_max_length,
    use_varlen_attn=use_varlen_attn,
    map_num_proc=map_num_proc,
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=dataloader_num_workers,
    dataset=train_dataset,
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=default_collate_fn, use_varlen_attn=use_varlen_attn),
)

#######################################################################
#                    PART 4  Scheduler & Optimizer                    #
#######################################################################
# optimizer
optim_wrapper = dict(
    type=AmpOptimWrapper,
    optimizer=dict(type=optim_type, lr=lr, betas=betas, weight_decay=weight_decay),
    clip_grad=dict(max_norm=max_norm, error_if_nonfinite=False),
    accumulative_counts=accumulative_counts,
    loss_scale="dynamic",
    dtype="bfloat16",
)

# learning policy: the cosine spans the whole run, the warm-up dampens its beginning
# More information: https://github.com/open-mmlab/mmengine/blob/main/docs/en/tutorials/param_scheduler.md  # noqa: E501
param_scheduler = [
    dict(
        type=LinearLR,
        start_factor=0.01,
        by_epoch=False,
        begin=0,
        # Schedulers count micro-batches.
        end=warmup_steps * accumulative_counts,
    ),
    dict(
        type=CosineAnnealingLR,
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

# train, val, test setting
train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)

#######################################################################
#                           PART 5  Runtime                           #
#######################################################################
# Log the dialogue periodically during the training process, optional
custom_hooks = [
    dict(type=DatasetInfoHook, tokenizer=tokenizer),
    dict(
        type=EvaluateChatHook,
        tokenizer=tokenizer,
        every_n_iters=evaluation_freq,
        evaluation_inputs=evaluation_inputs,
        system=SYSTEM,
        prompt_template=prompt_template,
        max_new_tokens=evaluation_tokens,
    ),
]

if use_varlen_attn:
    custom_hooks += [dict(type=VarlenAttnArgsToMessageHubHook)]

# configure default hooks
default_hooks = dict(
    # record the time of every iteration.
    timer=dict(type=IterTimerHook),
    # print log every 10 iterations.
    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=10),
    # enable the parameter scheduler.
    param_scheduler=dict(type=ParamSchedulerHook),
    # save checkpoint per `save_steps`, and at the end.
    checkpoint=dict(
        type=CheckpointHook,
        by_epoch=False,
        interval=save_steps,
        max_keep_ckpts=save_total_limit,
    ),
    # set sampler seed in distributed environment.
    sampler_seed=dict(type=DistSamplerSeedHook),
)

# configure environment
env_cfg = dict(
    # whether to enable cudnn benchmark
    cudnn_benchmark=False,
    # set multi process parameters
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # set distributed parameters
    dist_cfg=dict(backend="nccl"),
)

# set visualizer
visualizer = None

# set log level
log_level = "INFO"

# load from which checkpoint
load_from = None

# whether to resume training from the loaded checkpoint
resume = False

# A fixed seed: the same data and settings give the same run
randomness = dict(seed=42, deterministic=False)

# set log processor
log_processor = dict(by_epoch=False)
