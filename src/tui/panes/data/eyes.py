"""Through which tokenizer and template the rows are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.settings import Settings

if TYPE_CHECKING:
    from engine.dataset.preview import Preview, Sample

MAX_LENGTH = 2048


class Eyes:
    """A model's folder, a prompt template and a maximum length, and the process that knows them.

    `sample` and `tokens` block: call them from a thread. Several threads may; each waits for
    one other answer at most.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._preview: Preview | None = None
        self.model = ""
        """The model's folder; "" shows rows as they stand."""
        self.template = ""
        """The prompt template's name; "" leaves it to the tokenizer."""
        self.max_length = MAX_LENGTH
        self.split_marks: list[str] = []
        """Marks of the template that the tokenizer takes for plain text."""
        self.open = False
        """Whether the model has been looked through: it is there, and its tokenizer loads."""

    @property
    def wished(self) -> tuple[str, str, int]:
        """What an answer depends on besides the row."""
        return self.model, self.template, self.max_length

    def look_through(self, model: str, template: str, max_length: int | None = None) -> None:
        """From now on use `model` with `template`."""
        self.model, self.template = model, template
        self.max_length = max_length or self.max_length
        self.open = False

    def shut(self, model: str) -> None:
        """Let `model` go, which cannot be looked through."""
        if self.model == model:
            self.model = ""
            self.open = False

    def ready(self, shape: str) -> str:
        """Load the tokenizer if need be; return the template in use for rows of `shape`.

        Raises `Problem`.
        """
        if self._preview is None:
            from engine.dataset.preview import Preview

            self._preview = Preview(self._settings)
        model, template, max_length = self.wished
        used = self._preview.open(model, template or None, max_length, shape=shape)
        self.split_marks = self._preview.split_marks
        self.open = model == self.model
        return used

    def sample(self, value: Any, shape: str) -> Sample:
        """A row as the model sees it; `ready` comes first. Raises `Failed` for one it cannot."""
        assert self._preview is not None
        return self._preview.sample(value, shape)

    def tokens(self, values: list[Any], shape: str) -> list[int]:
        """How many tokens each row has; 0 for one that cannot be used. `ready` comes first."""
        assert self._preview is not None
        return self._preview.tokens(values, shape)

    def close(self) -> None:
        """End the tokenizer's process."""
        if self._preview is not None:
            self._preview.close()
