"""The settings of the data."""

from __future__ import annotations

from engine.config.known.setting import DATA, SCHEDULE, SWITCH, Known
from engine.i18n import N_

_FOLDER = N_("The folder that holds images.")

TABLE = (
    Known(
        "data_path",
        DATA,
        N_("The training data: a file, or a hub name."),
        speed=N_("More rows are more steps."),
        quality=N_("It decides what is learned. Read some rows first (F2)."),
        path="file",
        also=(
            "alpaca_en_path",
            "alpaca_zh_path",
            "oasst1_path",
            "crime_kg_assitant_path",
            "law_reference_data_path",
            "moss_sft_plugins_path",
            "moss_sft_no_plugins_path",
            "dataset_name_or_path",
            "refcoco_path",
            "sharegpt4v_caption_data_path",
            "llava_data_path",
            "sharegpt4v_data_path",
            "dvqa_data_path",
            "chartqa_data_path",
            "ai2d_data_path",
            "docvqa_data_path",
            "geoqa_data_path",
            "synthdog_data_path",
        ),
    ),
    Known(
        "data_files",
        DATA,
        N_("The training data: one or several files."),
        speed=N_("More rows are more steps."),
        quality=N_("It decides what is learned. Read some rows first (F2)."),
        path="file",
    ),
    Known(
        "dataset_folder",
        DATA,
        N_("The folder of training data that was tokenized before."),
        path="folder",
    ),
    Known(
        "data_root",
        DATA,
        N_("The folder that the paths of data and images begin with."),
        path="folder",
        also=("mmlu_data_root",),
    ),
    Known(
        "image_folder",
        DATA,
        _FOLDER,
        path="folder",
        also=(
            "sharegpt4v_caption_image_folder",
            "llava_image_folder",
            "sharegpt4v_image_folder",
            "dvqa_image_folder",
            "chartqa_image_folder",
            "ai2d_image_folder",
            "docvqa_image_folder",
            "geoqa_image_folder",
            "synthdog_image_folder",
        ),
    ),
    Known("data_config_name", DATA, N_("Which part of a hub's dataset to take.")),
    Known("bot_name", DATA, N_("The name under which the model speaks in MOSS's data.")),
    Known(
        "prompt_template",
        DATA,
        N_("How a conversation is written for the model."),
        quality=N_(
            "It must be the one that the model was made with, and the one you chat with "
            "later. A wrong one makes answers that never stop."
        ),
    ),
    Known(
        "max_length",
        DATA,
        N_("Tokens in a sample; longer ones are cut."),
        memory=N_("Activations and logits grow with every token: twice the length, twice of them."),
        speed=N_("Longer samples are slower; packed, fewer of them."),
        quality=N_("What is cut off is not learned."),
        low=64,
        high=32768,
    ),
    Known(
        "max_packed_length",
        DATA,
        N_("Tokens up to which several pairs of answers are packed together."),
        memory=N_("Activations and logits grow with every token."),
        speed=N_("Longer is faster: fewer, fuller steps."),
        low=512,
        high=131072,
        also=("*.packed_length",),
    ),
    Known(
        "max_response_length",
        DATA,
        N_("Tokens of an answer; longer ones are dropped."),
        low=64,
        high=32768,
    ),
    Known(
        "pack_to_max_length",
        DATA,
        N_("Join short samples until max_length is full."),
        memory=N_("Every sample has max_length tokens: the most that it can take, always."),
        speed=N_("Faster for short samples: no padding."),
        quality=N_(
            "Fewer steps; a small dataset may keep very few, and none when it is cut into "
            "map_num_proc pieces."
        ),
        choices=SWITCH,
    ),
    Known(
        "train_dataset.shuffle_before_pack",
        DATA,
        N_("Mix the rows before they are joined."),
        quality=N_("Without it neighbours in the file always share a sample."),
        choices=SWITCH,
        also=("*.shuffle_before_pack",),
    ),
    Known(
        "train_dataset.remove_unused_columns",
        DATA,
        N_("Drop columns that the training does not read."),
        choices=SWITCH,
        also=("*.remove_unused_columns",),
    ),
    Known(
        "train_dataset.dataset_map_fn",
        DATA,
        N_("The function that makes a conversation of a row; None where rows are conversations."),
        quality=N_("A function for other columns fails, or learns the wrong ones."),
        also=("*.dataset_map_fn",),
    ),
    Known(
        "max_dataset_length",
        DATA,
        N_("Rows to take at most, chosen at random."),
        speed=N_("Fewer rows, fewer steps."),
        low=100,
        high=10000000,
        also=("*.max_dataset_length",),
    ),
    Known(
        "train_dataloader.dataset.map_num_proc",
        DATA,
        N_("Processes that prepare the data. Each packs its own piece."),
        speed=N_("More prepare a big dataset faster; before the first step only."),
        quality=N_("With many, a small dataset is packed badly, or not at all: take 1."),
        low=1,
        high=64,
        also=("map_num_proc", "*.map_num_proc", "train_dataset.num_proc"),
        default="32",
    ),
    Known(
        "dataloader_num_workers",
        SCHEDULE,
        N_("Processes that feed batches."),
        speed=N_("0 is right for tokenised text; images want 2 to 8."),
        low=0,
        high=16,
    ),
    Known(
        "train_dataloader.pin_memory",
        DATA,
        N_("Keep batches in memory from which the GPU can copy."),
        speed=N_("A little faster with images."),
        choices=SWITCH,
    ),
)
