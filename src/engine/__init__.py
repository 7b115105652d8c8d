"""All of Tunedeck that is not drawing: data, configs, runs, models, chat.

Nothing here imports textual or the package ``tui``; nothing that the app
imports pulls in torch, transformers, datasets or xtuner. Those live in worker
processes (``engine.worker``), under the training interpreter.
"""

__version__ = "0.1.0"
