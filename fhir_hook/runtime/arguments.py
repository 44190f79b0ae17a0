"""The command lines of runc and crun, as far as the shim must understand them. Pure; imports nothing.

runc takes them apart with Go's package flag (github.com/urfave/cli v1): -name and --name are the same, a value follows
or stands behind "=", a boolean takes one behind "=" only. create, run and restore find options behind the container's
id as well. crun uses argp_parse(3): long names may be cut short, -bDIR is -b DIR, and short ones may be joined.
What is not known here is passed on as it is: an unknown option is taken to have no value, and when the word behind it
is no verb, that word is taken for its value.
"""

from __future__ import annotations

RUNC, CRUN = "runc", "crun"
EDITED = ("create", "run", "restore")
EXEC = "exec"
VERBS = frozenset(
    (*EDITED, EXEC, "start", "kill", "delete", "state", "list", "ps", "events", "pause", "resume", "update")
    + ("checkpoint", "features", "spec", "init", "help", "h", "mounts")
)
_GLOBAL = {
    "log": True, "log-format": True, "root": True, "criu": True, "rootless": True, "cgroup-manager": True,
    "log-level": True, "cgroup": True, "debug": False, "systemd-cgroup": False, "help": False, "h": False,
    "version": False, "v": False, "usage": False,
}  # fmt: skip
# Every option of the verbs that are looked into, and whether a value belongs to it.
_VERB = {
    "bundle": True, "b": True, "config": True, "f": True, "console-socket": True, "pidfd-socket": True,
    "pid-file": True, "preserve-fds": True, "image-path": True, "work-path": True, "manage-cgroups-mode": True,
    "empty-ns": True, "status-fd": True, "lsm-profile": True, "lsm-mount-context": True, "stream": False,
    "no-pivot": False, "no-new-keyring": False, "no-subreaper": False, "detach": False, "d": False, "keep": False,
    "tcp-established": False, "ext-unix-sk": False, "shell-job": False, "file-locks": False, "auto-dedup": False,
    "lazy-pages": False, "process": True, "p": True, "cwd": True, "env": True, "e": True, "user": True, "u": True,
    "additional-gids": True, "g": True, "process-label": True, "apparmor": True, "cap": True, "c": True,
    "cgroup": True, "tty": False, "t": False, "no-new-privs": False, "ignore-paused": False, "help": False, "h": False,
}  # fmt: skip
_SHORT = {"b": "bundle", "f": "config", "p": "process"}


class Call:
    """One call of the shim: `kind` of runtime, `verb` ("" when there is none), container `id`, and what was given of
    the options that matter here, "" where it was not: `root`, `log`, `log_format`; `bundle`, `config`, `process`."""

    __slots__ = ("kind", "verb", "id", "root", "log", "log_format", "bundle", "config", "process")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.verb = self.id = self.root = self.log = self.log_format = self.bundle = self.config = self.process = ""


def parse(kind: str, words: list[str]) -> Call:
    """Take apart the words behind the program's name, for `kind` runc or crun; never fails."""
    call = Call(kind)
    rest = _globals(call, words)
    if rest:
        call.verb = rest[0]
    if call.verb in EDITED or call.verb == EXEC:
        _options(call, rest[1:])
    return call


def _globals(call: Call, words: list[str]) -> list[str]:
    """Take the options before the verb; returns the words from the verb on."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return words[at + 1 :]
        if not _is_option(word):
            return words[at:]
        name, value, joined = _taken(call.kind, word, _GLOBAL)
        at += 1
        if not joined and at < len(words):
            unknown = name not in _GLOBAL and not _is_option(words[at]) and words[at] not in VERBS
            if _GLOBAL.get(name, unknown):
                value = words[at]
                at += 1
        if name in ("root", "log", "log-format"):
            setattr(call, name.replace("-", "_"), value)
    return []


def _options(call: Call, words: list[str]) -> None:
    """Take the options of the verb; those of exec end at the container's id, where its command begins."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            call.id = call.id or (words[at] if at < len(words) else "")
            return
        if not _is_option(word):
            call.id = call.id or word
            if call.verb == EXEC:
                return
            continue
        for name, value, joined in _each(call.kind, word):
            if not joined and at < len(words) and _VERB.get(name, False):
                value = words[at]
                at += 1
            name = _SHORT.get(name, name)
            if name in ("bundle", "config", "process"):
                setattr(call, name, value)


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-"


def _each(kind: str, word: str) -> list[tuple[str, str, bool]]:
    """The options in one word: several when crun's short ones are joined (-dbDIR)."""
    if kind != CRUN or word.startswith("--"):
        return [_taken(kind, word, _VERB)]
    found: list[tuple[str, str, bool]] = []
    for at in range(1, len(word)):
        if _VERB.get(word[at], False):
            return [*found, (word[at], word[at + 1 :], len(word) > at + 1)]
        found.append((word[at], "", True))
    return found


def _taken(kind: str, word: str, known: dict[str, bool]) -> tuple[str, str, bool]:
    """The name of an option, its value, and whether the value stands in the same word."""
    name, equals, value = word.lstrip("-").partition("=") if word[:3] != "---" else (word, "", "")
    if kind == CRUN and name not in known and word.startswith("--"):
        longer = [option for option in known if len(option) > 1 and option.startswith(name)]
        name = longer[0] if len(longer) == 1 else name
    return name, value, bool(equals)
