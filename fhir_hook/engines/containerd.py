"""containerd's config.toml: a runtime of the CRI plugin, for RuntimeClasses, and default_runtime_name if asked for.

Versions 3 and 4 (containerd 2) merge what they import, so there a drop-in in an imported directory is enough. Up to
containerd 1.7 an import replaces the whole section of a plugin (containerd issue 5837): there the file itself is
edited, as text, so that comments and order stay. Either way the result is parsed, and must be the old settings and
ours, and nothing else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from fhir_hook.engines import imports
from fhir_hook.engines.change import EngineError
from fhir_hook.engines.names import NAME, PROGRAM, replaced

CONFIG = Path("/etc/containerd/config.toml")
DROPIN = Path("/etc/containerd/conf.d/50-fhir-hook.toml")
PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime", 4: "io.containerd.cri.v1.runtime"}
BEGIN, END = "# fhir-hook: begin (made by 'fhir-hook engine configure containerd')", "# fhir-hook: end"
_WAS = "  # fhir-hook: was "
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_VERSION = re.compile(r"version = [234]")
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$\n?", re.MULTILINE | re.DOTALL)


def place(config: Path, text: str | None) -> Path:
    """The file to change: the drop-in where `config` imports it, else `config` itself. Raises EngineError."""
    return DROPIN if imported(config, text) and _version(_parsed(text), text) > 2 else config


def imported(config: Path, text: str | None) -> bool:
    """Whether config.toml imports our drop-in. Raises EngineError."""
    # Not fnmatch(3) without FNM_PATHNAME: no "*" of theirs stands for a "/".
    return any(PurePath(DROPIN).match(item) for item in imports.patterns(config, _parsed(text)))


def added(
    text: str | None, default: bool, main: str | None = None, others: Sequence[tuple[Path, dict[str, Any]]] = ()
) -> str:
    """The file with our runtime. `main` is the text of config.toml when `text` is that of the drop-in, `others` are
    the other files that it imports. Raises EngineError."""
    whole = text if main is None else main
    document = _parsed(whole)
    version = _version(document, whole)
    for path, other in others if version > 2 else ():
        document = _merged(document, other)
        said = _section(other, "plugins", PLUGINS[version], "containerd").get("default_runtime_name")
        if default and said is not None and (main is None or path > DROPIN):
            raise EngineError(f"{path} says default_runtime_name = {said!r}, and is read later: take it out first")
    base = removed(text, None) or ""
    # In front of our block, not in it: tables that somebody adds later need it, and stay when ours go.
    result = base if "version" in _parsed(base) else f"version = {version}\n{base}"
    if default:
        _replaceable(_section(document, "plugins", PLUGINS[version], "containerd"))
        _replaceable(_section(_parsed(base), "plugins", PLUGINS[version], "containerd"))
        result, block = _with_default(result, version, _block(document, version))
    else:
        block = _block(document, version)
    gap = "\n" if result and not result.endswith("\n") else ""
    result = f"{result}{gap}{BEGIN}\n{block}{END}\n"
    _check(_parsed(base), result, version, default)
    return result


def removed(text: str | None, before: str | None) -> str | None:
    """The file without what `added` put in; None when nothing else is in it."""
    if text is None:
        return None
    without = _BLOCK.sub("", text)
    without = re.sub(rf"^.*{re.escape(_WAS)}(.*)$", r"\1", without, flags=re.MULTILINE)
    if _VERSION.fullmatch(without.strip()) and not (before or "").strip():
        return before
    version = _parsed(text).get("version")
    if without.strip() and version is not None and not re.search(r"^[ \t]*version[ \t]*=", without, re.MULTILINE):
        without = f"version = {version}\n{without}"  # it stood in our block
    return without if without.strip() or before is not None else None


def use(text: str | None) -> str:
    """How a file uses our runtime: "default", "extra" or ""."""
    cri = [_section(_parsed(text), "plugins", plugin, "containerd") for plugin in PLUGINS.values()]
    if any(section.get("default_runtime_name") == NAME for section in cri):
        return "default"
    return "extra" if any(NAME in _section(section, "runtimes") for section in cri) else ""


def _block(document: dict[str, Any], version: int) -> str:
    """The tables of our runtime, with what runc's say (SystemdCgroup, privileged_without_host_devices ...)."""
    prefix = f'plugins."{PLUGINS[version]}".containerd.runtimes'
    runc = _section(document, "plugins", PLUGINS[version], "containerd", "runtimes", "runc")
    lines = [f"[{prefix}.{NAME}]", 'runtime_type = "io.containerd.runc.v2"', *_members(runc, "runtime_type")]
    options = _members(_section(runc, "options"), "BinaryName")
    lines += [f"[{prefix}.{NAME}.options]", f'BinaryName = "{PROGRAM}"', *options]
    return "".join(f"{line}\n" for line in lines)


def _members(table: dict[str, Any], without: str) -> list[str]:
    """The lines of a table's members whose values are plain, or lists of texts."""
    plain = {key: value for key, value in table.items() if key != without and _plain(value)}
    return [f"{key if _BARE.fullmatch(key) else _toml(key)} = {_toml(value)}" for key, value in plain.items()]


def _plain(value: Any) -> bool:
    one = isinstance(value, bool | int | str)
    return one or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _merged(document: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A document with another one's members over its own, table by table."""
    result = dict(document)
    for key, value in other.items():
        mine = result.get(key)
        result[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result


def _replaceable(cri: dict[str, Any]) -> None:
    """Raise EngineError when the default runtime is one that runc behind the shim can't stand for."""
    name = cri.get("default_runtime_name", "runc")
    if name not in ("", "runc", NAME):
        raise EngineError(replaced("config.toml: default_runtime_name", name))
    program = _section(cri, "runtimes", "runc", "options").get("BinaryName", "")
    if isinstance(program, str) and program.rpartition("/")[2] not in ("", "runc", NAME):
        raise EngineError(replaced("config.toml: BinaryName of the runtime runc", program))
    kind = _section(cri, "runtimes", "runc").get("runtime_type", "")
    if kind not in ("", "io.containerd.runc.v2"):
        raise EngineError(replaced("config.toml: runtime_type of the runtime runc", kind))


def _with_default(text: str, version: int, block: str) -> tuple[str, str]:
    """Set default_runtime_name: in its own line, below its table's header, or with our block."""
    table = rf"plugins\.[\"']{re.escape(PLUGINS[version])}[\"']\.containerd"
    header = re.search(rf"^[ \t]*\[[ \t]*{table}[ \t]*\][^\n]*\n", text, re.MULTILINE)
    if header is None:
        return text, f'[plugins."{PLUGINS[version]}".containerd]\ndefault_runtime_name = "{NAME}"\n{block}'
    following = re.search(r"^[ \t]*\[", text[header.end() :], re.MULTILINE)
    end = header.end() + following.start() if following else len(text)
    line = re.compile(r"^([ \t]*default_runtime_name[ \t]*=[^\n]*)$", re.MULTILINE)
    body = text[header.end() : end]
    if line.search(body):
        body = line.sub(lambda found: f'default_runtime_name = "{NAME}"{_WAS}{found[1]}', body, count=1)
        return text[: header.end()] + body + text[end:], block
    own = f'{BEGIN}\ndefault_runtime_name = "{NAME}"\n{END}\n'
    return text[: header.end()] + own + text[header.end() :], block


def _check(before: dict[str, Any], text: str, version: int, default: bool) -> None:
    """Raise EngineError when the edit did anything but what it is for."""
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        after = {}
    cri = _section(after, "plugins", PLUGINS[version], "containerd")
    runtime = _section(cri, "runtimes").pop(NAME, {})
    good = _section(runtime, "options").get("BinaryName") == PROGRAM
    good = good and after.pop("version", None) == before.pop("version", version)
    if default:
        good = good and cri.pop("default_runtime_name", None) == NAME
        _section(before, "plugins", PLUGINS[version], "containerd").pop("default_runtime_name", None)
    if not good or _pruned(before) != _pruned(after):
        hint = f'add [plugins."{PLUGINS[version]}".containerd.runtimes.{NAME}] with options.BinaryName = "{PROGRAM}"'
        raise EngineError(f"config.toml is written in a way that can't be edited safely: {hint} by hand")


def _pruned(value: Any) -> Any:
    """A document without empty tables, which say nothing."""
    if not isinstance(value, dict):
        return value
    inner = {key: _pruned(item) for key, item in value.items()}
    return {key: item for key, item in inner.items() if item != {}}


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        raise EngineError(f"config.toml is not TOML ({error}): containerd does not start with it either") from None


def _version(document: dict[str, Any], text: str | None) -> int:
    version = document.get("version", 2 if not (text or "").strip() else 1)
    if type(version) is not int:
        raise EngineError(f"config.toml says version = {version!r}, which is no whole number: repair it first")
    if version not in PLUGINS:
        hint = "'containerd config migrate' prints a newer one"
        raise EngineError(f"config.toml is of version {version}, and 2, 3 and 4 are known: {hint}")
    return version


def _section(document: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        document = document.get(name, {})
        if not isinstance(document, dict):
            return {}
    return document


def _toml(value: bool | int | str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
