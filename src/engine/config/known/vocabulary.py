"""The keywords that the usual blocks of an XTuner config take.

Told here where no training environment may be installed (a form asks what can be
added), and where no source tells: blocks that name no class. A test compares them
with the installed libraries. A block that is not listed is never spoken of.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

NEAR = 0.8
"""How alike two names are, of 1, for one to be taken for the other misspelt."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TUNED = "llm lora peft_model use_activation_checkpointing use_varlen_attn tokenizer"
_TUNED += " max_position_embeddings"
_WRAPPED = "optimizer accumulative_counts clip_grad"
_SCHEDULED = "begin end last_step by_epoch verbose convert_to_iter_based"
_ADAMW = "lr betas eps weight_decay amsgrad"
_PAGED = f"{_ADAMW} min_8bit_size percentile_clipping block_wise"

BY_TYPE = {
    "SupervisedFinetune": _words(_TUNED),
    "DPO": _words(f"{_TUNED} ref_llm beta loss_type label_smoothing"),
    "ORPO": _words(f"{_TUNED} beta"),
    "RewardModel": _words(f"{_TUNED} reward_token_id loss_type penalty_type penalty_weight"),
    "LoraConfig": _words(
        "r lora_alpha lora_dropout bias task_type target_modules modules_to_save use_dora "
        "use_rslora init_lora_weights layers_to_transform layers_pattern rank_pattern "
        "alpha_pattern fan_in_fan_out inference_mode exclude_modules loftq_config lora_bias"
    ),
    "BitsAndBytesConfig": _words(
        "load_in_8bit load_in_4bit llm_int8_threshold llm_int8_skip_modules "
        "llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight bnb_4bit_compute_dtype "
        "bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_quant_storage"
    ),
    "process_hf_dataset": _words(
        "dataset do_dataset_tokenization tokenizer max_length dataset_map_fn template_map_fn "
        "max_dataset_length split remove_unused_columns rename_maps shuffle_before_pack "
        "pack_to_max_length use_varlen_attn input_ids_with_output with_image_token map_num_proc"
    ),
    "build_preference_dataset": _words(
        "dataset tokenizer max_length dataset_map_fn is_dpo is_reward reward_token_id num_proc "
        "use_varlen_attn max_packed_length shuffle_before_pack max_response_length is_reference"
    ),
    "AmpOptimWrapper": _words(f"{_WRAPPED} loss_scale dtype use_fsdp"),
    "OptimWrapper": _words(_WRAPPED),
    "AdamW": _words(f"{_ADAMW} maximize foreach capturable differentiable fused"),
    "PagedAdamW32bit": _words(_PAGED),
    "PagedAdamW8bit": _words(_PAGED),
    "LinearLR": _words(f"{_SCHEDULED} start_factor end_factor"),
    "CosineAnnealingLR": _words(f"{_SCHEDULED} T_max eta_min eta_min_ratio"),
    "TrainLoop": _words("dataloader max_iters max_epochs"),
    "EvaluateChatHook": _words(
        "tokenizer evaluation_inputs evaluation_images image_processor system prompt_template "
        "every_n_iters max_new_tokens stop_word stop_words generation_kwargs"
    ),
    "LoggerHook": _words(
        "interval ignore_last interval_exp_name out_dir out_suffix keep_local file_client_args "
        "log_metric_by_epoch backend_args"
    ),
    "CheckpointHook": _words(
        "interval by_epoch save_optimizer save_param_scheduler out_dir max_keep_ckpts save_last "
        "save_best rule greater_keys less_keys file_client_args filename_tmpl backend_args "
        "published_keys save_begin"
    ),
}
"""Keywords by the name of the class or function that takes them."""

BUILDER = _words("type _scope_ constructor paramwise_cfg priority convert_to_iter_based")
"""Keywords that the builders take away before the class sees them."""

BY_PLACE = {
    "default_hooks": _words(
        "timer logger param_scheduler checkpoint sampler_seed runtime_info visualization"
    ),
    "env_cfg": _words("cudnn_benchmark mp_cfg dist_cfg resource_limit"),
    "env_cfg.mp_cfg": _words("mp_start_method opencv_num_threads"),
    "randomness": _words("seed deterministic diff_rank_seed"),
    "log_processor": _words(
        "type window_size by_epoch custom_cfg num_digits log_with_hierarchy mean_pattern"
    ),
    "train_dataloader": _words(
        "dataset sampler batch_size num_workers collate_fn batch_sampler pin_memory drop_last "
        "persistent_workers prefetch_factor timeout worker_init_fn multiprocessing_context "
        "pin_memory_device num_batch_per_epoch"
    ),
    "optim_wrapper.clip_grad": _words(
        "type max_norm norm_type error_if_nonfinite foreach clip_value"
    ),
}
"""Keywords of the blocks that have no ``type`` which could be asked, by their place."""

LENIENT = frozenset({"default_hooks", "env_cfg"})
"""Of these places: where a keyword that nobody knows does no harm by itself."""


def misspelt(place: str, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of the `keys` of the block at `place`, those near to a keyword of it, and that keyword."""
    there, takes = set(keys), BY_PLACE.get(place, frozenset())
    free = sorted(takes - there)
    for key in sorted(there - takes):
        if near := difflib.get_close_matches(key, free, n=1, cutoff=NEAR):
            yield key, near[0]
