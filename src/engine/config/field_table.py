"""What the settings of an XTuner config mean: text, sane ranges, names the trainer reads."""

from __future__ import annotations

import msgspec

from engine.i18n import N_

MODEL = N_("Model")
DATA = N_("Data")
LORA = N_("LoRA and quantisation")
SCHEDULE = N_("Schedule and optimiser")
SAVING = N_("Saving and evaluation")
PARALLEL = N_("Parallel")
RUNTIME = N_("Runtime")


class Known(msgspec.Struct, frozen=True):
    """A setting that Tunedeck knows."""

    name: str
    section: str
    help: str
    low: float | None = None
    """The sane range, both ends included; outside it is unusual, not forbidden."""
    high: float | None = None
    choices: tuple[str, ...] = ()
    """Usual values as a person types them; others are possible."""
    path: str = ""
    """ "file", "folder" or "model" where the value names one."""


TABLE = (
    Known(
        "pretrained_model_name_or_path",
        MODEL,
        N_("The base model: a local folder, or a hub name. Everything starts from its weights."),
        path="model",
    ),
    Known(
        "use_varlen_attn",
        MODEL,
        N_(
            "Packed samples do not see each other. Needs flash-attn and batch size 1; without "
            "flash-attn it does nothing."
        ),
        choices=("False", "True"),
    ),
    Known(
        "model.llm.torch_dtype",
        MODEL,
        N_(
            "The number format in which weights load. LoRA without quantisation turns the base "
            "into float32 anyway."
        ),
        choices=("torch.bfloat16", "torch.float16", "torch.float32"),
    ),
    Known(
        "model.llm.attn_implementation",
        MODEL,
        N_(
            "How attention is computed. sdpa is faster than eager at the same quality; "
            "flash_attention_2 needs flash-attn."
        ),
        choices=("sdpa", "flash_attention_2", "eager"),
    ),
    Known(
        "model.llm.trust_remote_code",
        MODEL,
        N_("Run Python code that lies in the model's folder. Some models need it; it is code."),
        choices=("False", "True"),
    ),
    Known(
        "model.use_activation_checkpointing",
        MODEL,
        N_(
            "Compute activations twice instead of keeping them: far less memory, up to twice the "
            "time a step. On by default."
        ),
        choices=("True", "False"),
    ),
    Known("alpaca_en_path", DATA, N_("The training data: a file, or a hub name."), path="file"),
    Known("alpaca_zh_path", DATA, N_("The training data: a file, or a hub name."), path="file"),
    Known("oasst1_path", DATA, N_("The training data: a file, or a hub name."), path="file"),
    Known("data_path", DATA, N_("The training data: a file, or a hub name."), path="file"),
    Known("data_files", DATA, N_("The training data: one or several files."), path="file"),
    Known(
        "prompt_template",
        DATA,
        N_(
            "How a conversation is written for the model. It must be the one the model was made "
            "with, and the one you chat with later."
        ),
    ),
    Known(
        "max_length",
        DATA,
        N_(
            "Tokens in a sample; longer ones are cut. Memory grows with it: activations and "
            "logits are per token."
        ),
        low=64,
        high=32768,
    ),
    Known(
        "pack_to_max_length",
        DATA,
        N_(
            "Join short samples until max_length is full: faster training, fewer steps. With a "
            "small dataset it can leave very few steps."
        ),
        choices=("True", "False"),
    ),
    Known(
        "train_dataloader.dataset.map_num_proc",
        DATA,
        N_(
            "Processes that prepare the data (32 unless set). Each packs its own piece, so a "
            "small dataset packs best with 1."
        ),
        low=1,
        high=64,
    ),
    Known(
        "model.lora.r",
        LORA,
        N_(
            "Rank of the adapter: how much it can learn. Twice the rank is twice the adapter, its "
            "gradients and optimizer state."
        ),
        low=4,
        high=256,
    ),
    Known(
        "model.lora.lora_alpha",
        LORA,
        N_("Scale of the adapter: its effect is alpha / r. Often r/4 to 2 r."),
        low=1,
        high=512,
    ),
    Known(
        "model.lora.lora_dropout",
        LORA,
        N_("Share of the adapter's inputs left out at random, against over-fitting."),
        low=0,
        high=0.3,
    ),
    Known(
        "model.lora.target_modules",
        LORA,
        N_("Layers that get an adapter. Not set: all linear layers."),
    ),
    Known(
        "model.llm.quantization_config.load_in_4bit",
        LORA,
        N_(
            "Keep the base in 4 bits (QLoRA): about a seventh of the memory of float32, slower "
            "steps."
        ),
        choices=("True", "False"),
    ),
    Known(
        "model.llm.quantization_config.bnb_4bit_compute_dtype",
        LORA,
        N_("The number format in which 4-bit layers compute."),
        choices=("torch.bfloat16", "torch.float16"),
    ),
    Known(
        "batch_size",
        SCHEDULE,
        N_(
            "Samples that one GPU takes at once (the micro-batch). More is faster and needs more "
            "memory."
        ),
        low=1,
        high=64,
    ),
    Known(
        "accumulative_counts",
        SCHEDULE,
        N_(
            "Micro-batches whose gradients are added before the weights move. A bigger effective "
            "batch without more memory."
        ),
        low=1,
        high=256,
    ),
    Known(
        "dataloader_num_workers",
        SCHEDULE,
        N_("Processes that feed batches. 0 is right for tokenised text."),
        low=0,
        high=16,
    ),
    Known(
        "max_epochs",
        SCHEDULE,
        N_("How many times the data is seen. 1 to 3; small datasets may need more."),
        low=1,
        high=10,
    ),
    Known(
        "optim_type",
        SCHEDULE,
        N_("The optimizer. PagedAdamW8bit needs less memory and bitsandbytes on a GPU."),
        choices=("AdamW", "PagedAdamW32bit", "PagedAdamW8bit"),
    ),
    Known(
        "lr",
        SCHEDULE,
        N_(
            "Peak learning rate. LoRA 1e-4 to 5e-4, full fine-tuning 1e-5 to 5e-5. Too high "
            "forgets, too low learns nothing."
        ),
        low=1e-6,
        high=1e-3,
    ),
    Known(
        "betas",
        SCHEDULE,
        N_("How long AdamW remembers gradients: their mean and their size."),
    ),
    Known(
        "weight_decay",
        SCHEDULE,
        N_("Pull of the weights towards zero. 0 is usual for LoRA."),
        low=0,
        high=0.1,
    ),
    Known(
        "max_norm",
        SCHEDULE,
        N_("Gradients longer than this are shortened: it keeps one bad batch from doing harm."),
        low=0.1,
        high=10,
    ),
    Known(
        "warmup_ratio",
        SCHEDULE,
        N_(
            "Share of the run in which the learning rate rises. It must last 2 steps or more, or "
            "nothing is learned."
        ),
        low=0,
        high=0.2,
    ),
    Known("save_steps", SAVING, N_("Steps between two checkpoints."), low=10, high=10000),
    Known(
        "save_total_limit",
        SAVING,
        N_(
            "Checkpoints kept (-1: all). The oldest goes before the new one is written: with 1, a "
            "crash while saving leaves none."
        ),
        low=-1,
        high=100,
    ),
    Known(
        "evaluation_freq",
        SAVING,
        N_("Steps between two rounds of the evaluation questions."),
        low=10,
        high=10000,
    ),
    Known("SYSTEM", SAVING, N_("The system prompt of the evaluation questions.")),
    Known(
        "evaluation_inputs",
        SAVING,
        N_("Questions that the model answers during training, so that you see it change."),
    ),
    Known(
        "default_hooks.logger.interval",
        SAVING,
        N_("Steps between two lines of the log and two points of the chart."),
        low=1,
        high=100,
    ),
    Known(
        "sequence_parallel_size",
        PARALLEL,
        N_("GPUs that share one long sample. Needs flash-attn and DeepSpeed; 1 is off."),
        low=1,
        high=8,
    ),
    Known(
        "env_cfg.dist_cfg.backend",
        PARALLEL,
        N_("How processes talk: nccl between GPUs, gloo on CPUs."),
        choices=("nccl", "gloo"),
    ),
    Known(
        "work_dir", RUNTIME, N_("Where the run writes. `tunedeck train` sets it."), path="folder"
    ),
    Known(
        "load_from",
        RUNTIME,
        N_("A checkpoint whose weights to start from."),
        path="file",
    ),
    Known(
        "resume",
        RUNTIME,
        N_("Go on from the checkpoint in load_from, with its step and optimizer state."),
        choices=("False", "True"),
    ),
    Known(
        "randomness.seed",
        RUNTIME,
        N_("Makes two runs see the same order of data. None picks one at random."),
    ),
)

BY_NAME = {known.name: known for known in TABLE}

ADDABLE = frozenset(
    (
        "work_dir",
        "load_from",
        "resume",
        "randomness",
        "log_level",
        "visualizer",
        "experiment_name",
        "model_resource",
    )
)
"""Top-level settings that may be missing in a file and still mean something to the trainer."""

RUNNER_KEYS = ADDABLE | {
    "auto_scale_lr",
    "cfg",
    "compile",
    "custom_hooks",
    "custom_imports",
    "data_preprocessor",
    "default_hooks",
    "default_scope",
    "env_cfg",
    "framework",
    "launcher",
    "log_processor",
    "lora",
    "model",
    "model_resource",
    "model_wrapper_cfg",
    "optim_wrapper",
    "param_scheduler",
    "runner_type",
    "sequence_parallel_size",
    "strategy",
    "test_cfg",
    "test_dataloader",
    "test_evaluator",
    "tokenizer",
    "train_cfg",
    "train_dataloader",
    "train_dataset",
    "trainer",
    "training_args",
    "use_varlen_attn",
    "val_cfg",
    "val_dataloader",
    "val_evaluator",
}
"""Every top-level name that mmengine's runner or XTuner's trainer reads."""
