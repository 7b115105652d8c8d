"""``tunedeck handover``: a finished model goes on to servers, hubs and other machines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.export.gguf import Made
    from engine.export.handover import Handover
    from engine.hub.upload import Uploaded

_TOOLS = ("vllm", "lmdeploy", "sglang", "ollama")


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verb's parser."""
    verb = verbs.add_parser(
        "handover",
        parents=[common],
        help=_("how a finished model is served, copied, uploaded, made a GGUF file"),
    )
    verb.add_argument("model", metavar="MODEL", type=Path, help=_("a whole model's folder"))
    verb.add_argument(
        "--for",
        dest="tools",
        action="append",
        choices=_TOOLS,
        help=_("the command for this server (may be repeated; default: all)"),
    )
    verb.add_argument("--rsync", default="", metavar="HOST:DIR", help=_("the line to copy it"))
    verb.add_argument("--gguf", default="", metavar="TYPE", help=_("make a GGUF file: q4_k_m, …"))
    verb.add_argument(
        "--out", metavar="FILE", type=Path, help=_("the GGUF file (default: beside the model)")
    )
    verb.add_argument("--force", action="store_true", help=_("replace the GGUF file"))
    verb.add_argument(
        "--upload",
        default="",
        metavar="hf:OWNER/NAME",
        help=_("put it on a hub (hf: or ms:), privately"),
    )
    verb.add_argument("--public", action="store_true", help=_("upload for everybody to see"))
    verb.add_argument(
        "--no-templates",
        action="store_true",
        help=_("do not compare XTuner's chat template with the tokenizer's"),
    )
    verb.set_defaults(run=_handover)


def _handover(args: argparse.Namespace, out: Output) -> int:
    from engine.export import gguf, handover, template
    from engine.hub import upload

    target = upload.target(args.upload) if args.upload else None
    tools = tuple(args.tools or _TOOLS)
    found = handover.describe(args.model, tools=tools, rsync=args.rsync)
    if not args.no_templates:
        compared = template.compare(found.model, out.settings, trust=handover.trusted(found.model))
        found = handover.describe(args.model, tools=tools, rsync=args.rsync, templates=compared)
    made = uploaded = None
    if args.gguf:
        made = gguf.make(
            found.model,
            args.gguf,
            args.out,
            settings=out.settings,
            force=args.force,
            progress=out.progress(_("Making the GGUF file")),
        )
    if target is not None:
        uploaded = upload.folder(
            found.model,
            target,
            settings=out.settings,
            public=args.public,
            progress=out.progress(_("Uploading")),
        )
    import msgspec

    result = {**msgspec.structs.asdict(found), "gguf": made, "uploaded": uploaded}
    out.result(result, lambda: _lines(found, made, uploaded))
    return 0


def _lines(found: Handover, made: Made | None, uploaded: Uploaded | None) -> Iterator[str]:
    from engine.text import size

    yield f"{found.model}  {size(found.bytes)}"
    yield from found.notes
    if made is not None:
        yield f"{made.path}  {made.type}  {size(made.bytes)}"
    if uploaded is not None:
        seen = _("public") if uploaded.public else _("private")
        yield f"{uploaded.url}  {seen}  {size(uploaded.bytes)}"
    if made is not None or uploaded is not None:
        return
    for one in found.commands:
        yield ""
        yield f"# {one.tool}: {one.note}" if one.note else f"# {one.tool}"
        yield one.command
    if found.gguf_bytes:
        yield ""
        sizes = "  ".join(f"{kind} {size(count)}" for kind, count in found.gguf_bytes.items())
        yield _("As a GGUF file about: {sizes}").format(sizes=sizes)
