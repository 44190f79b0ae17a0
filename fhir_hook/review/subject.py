"""What a review is about: a profile, an engine's default, a file, a recording or nothing at all, as one filter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fhir_hook.authoring import expand, schema
from fhir_hook.authoring.source import Source, Sources
from fhir_hook.core.oci_seccomp import ALLOW, ENOSYS, ERRNO, Meaning
from fhir_hook.recording import recording as recordings
from fhir_hook.recording.recording import Recording
from fhir_hook.review import engine_format, kernel_data
from fhir_hook.review.cases import passes

PODMAN_DEFAULT = Path("/usr/share/containers/seccomp.json")
# containers-common's default_capabilities, containers.conf(5) 4.3
PODMAN_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
WORDS = ("docker", "podman", "unconfined")
UNCONFINED: dict[str, Any] = {"defaultAction": ALLOW, "syscalls": []}


class SubjectError(Exception):
    """What was named can't be found or read; str() is one line."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """One filter: `label` for people, `section` (OCI linux.seccomp) and its `meaning` on `arch`.

    `capabilities` are those a container has beside it; `new_privileges` whether set-user-ID programs still work.
    `source` is set for profiles, `recording` for recordings; `kind` is profile, policy, recording, oci, docker, ...
    """

    label: str
    kind: str
    arch: str
    section: dict[str, Any]
    meaning: Meaning
    capabilities: tuple[str, ...] = ()
    new_privileges: bool = True
    source: Source | None = None
    recording: Recording | None = None

    @property
    def calls(self) -> dict[str, int]:
        """The architecture's calls by name."""
        return expand.NUMBERS[self.arch]

    def allowed(self) -> set[str]:
        """Known calls that may reach the kernel, at least with some arguments."""
        return {name for name in self.calls if self.passes_somehow(name)}

    def passes_somehow(self, call: str) -> bool:
        """Whether the call may reach the kernel with some arguments."""
        rules = self.meaning.rules.get(call, ())
        if any(passes(rule.answer) for rule in rules):
            return True
        return passes(self.meaning.default) and not any(not rule.conditions for rule in rules)

    def unconditional(self, call: str) -> bool:
        """Whether one rule, or the default, decides about the call whatever its arguments are."""
        rules = self.meaning.rules.get(call, ())
        return not any(rule.conditions for rule in rules)


def make(label: str, kind: str, arch: str, section: dict[str, Any], **more: Any) -> Subject:
    """A subject of a section; raises SubjectError on a section that no runtime takes."""
    try:
        return Subject(label, kind, arch, section, Meaning(section), **more)
    except ValueError as error:
        raise SubjectError(f"{label}: {error}") from None


def of_profile(sources: Sources, profile: Source, arch: str, label: str = "") -> Subject:
    """A profile with its groups and the runtimes' base sets, as it would be compiled."""
    section = expand.section(expand.gather(sources, profile, arch), arch)
    keep = tuple(profile.document.get("capabilities", {}).get("keep", ()))
    new = not profile.document.get("noNewPrivileges", True)
    return make(label or profile.name, "profile", arch, section, capabilities=keep, new_privileges=new, source=profile)


def of_recording(found: Recording, arch: str) -> Subject:
    """A recording as the tightest filter it could have run under: its calls, with the argument values it saw."""
    entries: list[dict[str, Any]] = []
    for name in sorted(found.calls & expand.NUMBERS[arch].keys()):
        seen = found.arguments.get(name, ())
        if not seen or not all(entry.values for entry in seen):
            entries.append({"names": [name], "action": ALLOW})
            continue
        for entry in seen:
            args = [{"index": i, "value": v, "valueTwo": 0, "op": "SCMP_CMP_EQ"} for i, v in entry.values]
            entries.append({"names": [name], "action": ALLOW, "args": args})
    section = {"defaultAction": ERRNO, "defaultErrnoRet": ENOSYS, "syscalls": entries}
    return make(found.name, "recording", arch, section, recording=found, new_privileges=False)


class Finder:
    """Finds subjects by what people call them, among the profiles and the data of one installation."""

    def __init__(self, sources: Sources, shipped: Path, arch: str = "x86_64") -> None:
        self.sources = sources
        self.shipped = shipped
        self.arch = arch

    def find(self, name: str) -> Subject:
        """The subject of a name: docker, podman, unconfined, a profile, NAME@policy, a recording, or a file.

        A name with a slash or a known ending is a file. Raises SubjectError.
        """
        if name == "unconfined":
            return make(name, name, self.arch, UNCONFINED, capabilities=self._docker_capabilities())
        if name == "docker":
            section = kernel_data.load(self.shipped, "docker-default")["seccomp"][self.arch]
            return make(name, name, self.arch, section, capabilities=self._docker_capabilities())
        if name == "podman":
            return self._podman()
        if "/" in name or name.endswith((".json", ".yaml", ".yml")):
            return self.file(Path(name))
        if name.endswith("@policy"):
            return self._in_force(name.removesuffix("@policy"))
        if name in self.sources.profiles:
            return of_profile(self.sources, self.sources.profiles[name], self.arch)
        available = recordings.available(self.shipped)
        if name in available:
            return self._recording(available[name])
        raise SubjectError(self._unknown(name, [*self.sources.profiles, *WORDS, *available]))

    def profile(self, name: str) -> Subject:
        """As `find`, for what must be a profile: a name of an installed one, or a file that holds one."""
        if name in self.sources.profiles:
            return of_profile(self.sources, self.sources.profiles[name], self.arch)
        if "/" in name or name.endswith(".json"):
            found = self.file(Path(name))
            if found.kind == "profile":
                return found
            raise SubjectError(f"{name} is no profile but of the kind {found.kind}; 'profile import' makes one of it")
        raise SubjectError(self._unknown(name, list(self.sources.profiles)))

    def file(self, path: Path) -> Subject:
        """The subject in a file of any format that is understood. Raises SubjectError."""
        try:
            document = engine_format.read(path)
            if document.kind == "profile":
                return self._profile_file(document)
            if document.kind == "recording":
                return self._recording(path)
            capabilities = self._docker_capabilities() if document.kind == "docker" else ()
            section = engine_format.section(document, self.arch, ())
            return make(str(path), document.kind, self.arch, section, capabilities=capabilities)
        except engine_format.FormatError as error:
            raise SubjectError(str(error)) from None

    def _profile_file(self, document: engine_format.Document) -> Subject:
        checker, findings = schema.load(self.shipped, "profile")
        findings = findings or (checker.check(document.value, str(document.path)) if checker else [])
        if findings:
            first = findings[0]
            hint = f" ({first.hint})" if first.hint else ""
            raise SubjectError(f"{document.path}#{first.pointer}: {first.message}{hint}")
        profile = Source(document.value["name"], document.path, document.value, True)
        return of_profile(self.sources, profile, self.arch, str(document.path))

    def _recording(self, path: Path) -> Subject:
        try:
            return of_recording(recordings.load(path, self.shipped), self.arch)
        except recordings.RecordingError as error:
            raise SubjectError(str(error)) from None

    def _docker_capabilities(self) -> tuple[str, ...]:
        return tuple(kernel_data.load(self.shipped, "docker-default")["capabilities"])

    def _podman(self) -> Subject:
        try:
            document = engine_format.read(PODMAN_DEFAULT)
            section = engine_format.section(document, self.arch, PODMAN_CAPABILITIES)
        except engine_format.FormatError as error:
            raise SubjectError(f"Podman's default can't be read: {error}") from None
        return make("podman", "podman", self.arch, section, capabilities=PODMAN_CAPABILITIES)

    def _in_force(self, name: str) -> Subject:
        from fhir_hook.store import policy

        try:
            body = policy.Body(policy.load_index())
        except policy.PolicyError as error:
            raise SubjectError(f"{error}. {error.code}: run 'fhir-hook policy compile' as root") from None
        try:
            compiled = body.profile(name, self.arch)
        except policy.PolicyError as error:
            raise SubjectError(f"the policy in force: {error}") from None
        finally:
            body.close()
        return make(
            f"{name}@policy", "policy", self.arch, compiled["seccomp"][self.arch],
            capabilities=tuple(compiled["capabilities"]), new_privileges=not compiled["noNewPrivileges"],
        )  # fmt: skip

    @staticmethod
    def _unknown(name: str, known: list[str]) -> str:
        import difflib

        close = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(known))}"
        return f"nothing is called {name[:80]!r}; {hint} Name a file with its folder (./{name[:80]})."
