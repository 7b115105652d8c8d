"""The one translation seam: every text for people passes through `_` here.

The source language is English; other catalogues live in ``locale/`` and are
made with ``make messages``. The language is looked up at each call, so that it
can be changed while the app runs.
"""

from __future__ import annotations

import gettext
import os
import re
from pathlib import Path

LANGUAGES = {"en": "English", "zh": "中文"}
DOMAIN = "tunedeck"
LOCALE_DIR = Path(__file__).parent / "locale"

_WIDE_STOPS = tuple("。！？；：")
_STOPS = (*_WIDE_STOPS, *"….!?;:")

_current: gettext.NullTranslations = gettext.NullTranslations()
_language = "en"


def from_environment() -> str:
    """The language that the locale asks for, or English."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            code = re.split("[_.@]", value)[0].lower()
            return code if code in LANGUAGES else "en"
    return "en"


def use(language: str) -> None:
    """Switch to `language` ("en", "zh"); "" means what the locale asks for."""
    global _current, _language
    _language = language if language in LANGUAGES else from_environment()
    if _language == "en":  # the texts as they are written
        _current = gettext.NullTranslations()
    else:
        _current = gettext.translation(DOMAIN, LOCALE_DIR, [_language], fallback=True)


def language() -> str:
    """The language in use."""
    return _language


def _(message: str) -> str:
    """`message` in the language in use. Fill it afterwards: ``_("{n} rows").format(n=3)``."""
    return _current.gettext(message)


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many`, as `count` and the language in use ask for."""
    return _current.ngettext(one, many, count)


def sentences(*parts: str) -> str:
    """`parts` as one text, empty ones left out; all but the last end with a stop.

    Chinese stops bring their own space: no blank stands after one.
    """
    stop = "。" if _language == "zh" else "."
    text = ""
    for part in filter(None, parts):
        if text:
            text += "" if text.endswith(_STOPS) else stop
            text += "" if text.endswith(_WIDE_STOPS) else " "
        text += part
    return text


def N_(message: str) -> str:
    """Marks `message` for the catalogue; translated later, where it is shown."""
    return message
