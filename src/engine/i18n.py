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

from engine.errors import Problem

LANGUAGES = {"en": "English", "zh": "中文"}
DOMAIN = "tunedeck"
LOCALE_DIR = Path(__file__).parent / "locale"

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


def require(language: str) -> None:
    """Raises `Problem` for a `language` that is none of ours; "" is what nobody asked for."""
    if language and language not in LANGUAGES:
        raise Problem(
            _("There is no language {language}").format(language=language),
            "",
            _("Known: {names}.").format(names=", ".join(LANGUAGES)),
        )


def language() -> str:
    """The language in use."""
    return _language


def _(message: str) -> str:
    """`message` in the language in use. Fill it afterwards: ``_("{n} rows").format(n=3)``."""
    return _current.gettext(message)


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many`, as `count` and the language in use ask for."""
    return _current.ngettext(one, many, count)


def N_(message: str) -> str:
    """Marks `message` for the catalogue; translated later, where it is shown."""
    return message
