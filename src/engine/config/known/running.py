"""The settings of what happens beside the training: saving, asking, showing, several GPUs."""

from __future__ import annotations

from engine.config.known.setting import PARALLEL, RUNTIME, SAVING, SWITCH, Known, Preset
from engine.i18n import N_

_SHOWN = ("mmengine.visualization", "Visualizer")


def _shown_by(word: str, backend: str, module: str, package: str) -> Preset:
    code = f"dict(type=Visualizer, vis_backends=[dict(type={backend})])"
    return Preset(word, code, (_SHOWN, (module, backend)), package)


TABLE = (
    Known(
        "save_steps",
        SAVING,
        N_("Micro-batches between two checkpoints."),
        speed=N_("A save takes seconds, for full fine-tuning minutes."),
        quality=N_("What was learned since the last one is lost when a run ends badly."),
        low=10,
        high=10000,
        also=("default_hooks.checkpoint.interval",),
    ),
    Known(
        "save_total_limit",
        SAVING,
        N_(
            "Checkpoints kept (-1: all). The oldest goes before the new one is written: with 1, a "
            "crash while saving leaves none."
        ),
        low=-1,
        high=100,
        also=("default_hooks.checkpoint.max_keep_ckpts",),
    ),
    Known(
        "default_hooks.checkpoint.save_optimizer",
        SAVING,
        N_("Keep the optimizer's state in checkpoints. Without it a run cannot be resumed."),
        choices=SWITCH,
        also=("save_optimizer",),
        default="True",
    ),
    Known(
        "default_hooks.checkpoint.save_last",
        SAVING,
        N_("Save once more at the end."),
        choices=SWITCH,
        default="True",
    ),
    Known(
        "default_hooks.checkpoint.by_epoch",
        SAVING,
        N_("Count the save interval in epochs instead of micro-batches."),
        choices=SWITCH,
    ),
    Known(
        "evaluation_freq",
        SAVING,
        N_("Micro-batches between two rounds of the evaluation questions."),
        speed=N_("Each round writes every answer in full: seconds to minutes."),
        low=10,
        high=10000,
        also=("custom_hooks.*.every_n_iters", "evaluate_steps"),
    ),
    Known(
        "SYSTEM",
        SAVING,
        N_("The system prompt of the evaluation questions."),
        quality=N_("Use the one that the training data has."),
        also=("custom_hooks.*.system",),
    ),
    Known(
        "evaluation_inputs",
        SAVING,
        N_("Questions that the model answers during training, so that you see it change."),
        speed=N_("Every question takes its time at every round."),
        also=("custom_hooks.*.evaluation_inputs",),
    ),
    Known(
        "evaluation_images",
        SAVING,
        N_("The image that evaluation questions are about: a file or an address."),
        also=("custom_hooks.*.evaluation_images",),
    ),
    Known(
        "evaluation_tokens",
        SAVING,
        N_("Tokens that an evaluation answer may have."),
        speed=N_("Long answers are slow: 600 tokens take half a minute each."),
        low=16,
        high=1024,
        also=("custom_hooks.*.max_new_tokens",),
    ),
    Known(
        "default_hooks.logger.interval",
        SAVING,
        N_("Steps between two lines of the log and two points of the chart."),
        low=1,
        high=100,
        also=("log_interval",),
    ),
    Known(
        "visualizer",
        SAVING,
        N_("Where the curves go besides Tunedeck's own chart."),
        choices=("None", "tensorboard", "wandb", "swanlab"),
        presets=(
            _shown_by("tensorboard", "TensorboardVisBackend", _SHOWN[0], "tensorboard"),
            _shown_by("wandb", "WandbVisBackend", _SHOWN[0], "wandb"),
            _shown_by("swanlab", "SwanlabVisBackend", "swanlab.integration.mmengine", "swanlab"),
        ),
        default="None",
    ),
    Known(
        "log_processor.window_size",
        SAVING,
        N_("Steps over which the logged loss is averaged."),
        low=1,
        high=100,
        default="10",
    ),
    Known(
        "sequence_parallel_size",
        PARALLEL,
        N_("GPUs that share one long sample. Needs flash-attn and DeepSpeed; 1 is off."),
        memory=N_("Each GPU holds its share of a sample's activations."),
        speed=N_("Slower for each token: the GPUs talk in every layer."),
        quality=N_("Fewer samples at once: accumulative_counts should grow by as much."),
        low=1,
        high=8,
    ),
    Known(
        "strategy.config.zero_optimization.stage",
        PARALLEL,
        N_(
            "What DeepSpeed spreads over the GPUs: 1 optimizer, 2 gradients too, 3 weights too. "
            "Better chosen when a run is started: then the config runs with and without."
        ),
        memory=N_("Each stage leaves less on every GPU; one GPU gains nothing from 3."),
        speed=N_("3 is slower: weights travel in every layer."),
        low=0,
        high=3,
        also=("strategy.zero_optimization.stage",),
    ),
    Known(
        "strategy.config.zero_optimization.offload_optimizer.device",
        PARALLEL,
        N_("Where DeepSpeed keeps the optimizer's state."),
        memory=N_("cpu frees 12 bytes for each trained parameter; the host needs them instead."),
        speed=N_("cpu is several times slower in each step."),
        choices=("none", "cpu", "nvme"),
        also=("strategy.zero_optimization.offload_optimizer.device",),
    ),
    Known(
        "strategy.config.zero_optimization.offload_param.device",
        PARALLEL,
        N_("Where DeepSpeed keeps the weights between layers (stage 3)."),
        memory=N_("cpu leaves only the layer at work on the GPU."),
        speed=N_("cpu is far slower."),
        choices=("none", "cpu", "nvme"),
        also=("strategy.zero_optimization.offload_param.device",),
    ),
    Known(
        "env_cfg.dist_cfg.backend",
        PARALLEL,
        N_("How processes talk: nccl between GPUs, gloo on CPUs."),
        speed=N_("gloo is slow between GPUs."),
        choices=("nccl", "gloo"),
    ),
    Known(
        "env_cfg.mp_cfg.mp_start_method",
        PARALLEL,
        N_("How worker processes of the data begin."),
        choices=("fork", "spawn"),
    ),
    Known(
        "env_cfg.cudnn_benchmark",
        PARALLEL,
        N_("Let cuDNN try which algorithm is fastest; for images of one size."),
        choices=SWITCH,
    ),
    Known(
        "on_gpu",
        RUNTIME,
        N_("Whether this config trains on a GPU or on the CPU."),
        speed=N_("A GPU is some hundred times faster."),
        choices=SWITCH,
    ),
    Known(
        "work_dir",
        RUNTIME,
        N_("Where the run writes. `tunedeck train` sets it."),
        path="folder",
        default=N_("a folder of the run's own"),
    ),
    Known(
        "load_from",
        RUNTIME,
        N_("A checkpoint whose weights to start from."),
        quality=N_("The schedule begins anew; with resume it goes on."),
        path="file",
        default="None",
    ),
    Known(
        "resume",
        RUNTIME,
        N_("Go on from the checkpoint in load_from, with its step and optimizer state."),
        choices=SWITCH,
        default="False",
    ),
    Known(
        "randomness.seed",
        RUNTIME,
        N_("Makes two runs see the same order of data. None picks one at random."),
        quality=N_("Keep it to compare two runs."),
        low=0,
        high=4294967295,
        default="None",
    ),
    Known(
        "randomness.deterministic",
        RUNTIME,
        N_("Make two runs of one seed agree to the last bit."),
        speed=N_("Slower."),
        choices=SWITCH,
    ),
    Known(
        "log_level",
        RUNTIME,
        N_("How much the trainer says."),
        choices=("INFO", "WARNING", "DEBUG"),
    ),
    Known("framework", RUNTIME, N_("huggingface: trained by transformers' Trainer.")),
)
