"""Pages from templates: every value that comes out of a log is escaped, bounded, and shown for what it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhir_hook.audit.selection import utc_time

if TYPE_CHECKING:
    from jinja2 import Environment

DATA = Path(__file__).parent / "data"
LONGEST = 200


class TemplatesMissing(Exception):
    """The template engine is not installed; str() is one line."""


def environment() -> Environment:
    """The templates of this package; raises TemplatesMissing."""
    try:
        import jinja2
    except ImportError:
        raise TemplatesMissing("pages are made with jinja2: apt-get install python3-jinja2") from None
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DATA, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
    )
    made.filters["when"] = when
    made.filters["soft"] = soft
    made.filters["own"] = own
    made.filters["day"] = lambda time: when(time)[:10]
    made.filters["capitalize"] = lambda text: text[:1].upper() + text[1:]
    return made


def shown(value: Any) -> Any:
    """What a template prints: markup as it is, anything else as bounded text without characters that act on a reader.

    Control characters, line and paragraph separators, bidirectional overrides (UAX #9) and lone surrogates are written
    as escapes; the template engine escapes HTML after this.
    """
    if hasattr(value, "__html__"):
        return value
    text = "" if value is None else str(value)
    left = len(text) - LONGEST
    if left > 0:
        text = text[:LONGEST]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return f"{text}\u2026 ({left:,} more characters)" if left > 0 else text


def own(text: str) -> Any:
    """A text of this product, whole."""
    from markupsafe import escape

    return escape(text)


def soft(text: str) -> Any:
    """A name that may be broken behind its slashes and colons."""
    from markupsafe import Markup, escape

    escaped = str(escape(shown(text)))
    return Markup(escaped.replace("/", "/<wbr>").replace(":", ":<wbr>"))  # noqa: S704 - escaped in the line before


def when(time: str | datetime) -> str:
    """A time of a record in UTC, to the second."""
    if isinstance(time, datetime):
        return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    found = utc_time(time)
    return found.strftime("%Y-%m-%d %H:%M:%S") if found else "(no time)" if time else "never"


def markup(text: str) -> Any:
    """Text that is markup already."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - only for what this package has drawn itself
