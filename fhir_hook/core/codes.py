"""Every reason the hook can give, by its stable code: what happened, and what to do next.

Codes never change their meaning and are never reused. FH1xx refuse a start, FH2xx are findings on a start
that went on, FH3xx say why an image could not be identified, FH4xx exempt. Loaded only when one is needed.
"""

from __future__ import annotations


class Code:
    """`slug` names the code in paths and messages, `title` says what happened, `hint` what to do next."""

    __slots__ = ("slug", "title", "hint")

    def __init__(self, slug: str, title: str, hint: str) -> None:
        self.slug = slug
        self.title = title
        self.hint = hint


CODES = {
    "FH101": Code(
        "profile-not-installed",
        "the image names a profile that is not installed on this host",
        "install the profile below /etc/fhir-hook/profiles and run 'fhir-hook policy compile', or bind the image "
        "to an installed one with [[bind]] in /etc/fhir-hook/config.toml",
    ),
    "FH102": Code(
        "profile-not-nameable",
        "the image names a profile that images may not name",
        "bind the image to a profile with [[bind]] in /etc/fhir-hook/config.toml, or correct the image's label",
    ),
    "FH103": Code(
        "policy-unreadable",
        "the compiled policy is missing or damaged",
        "run 'fhir-hook policy compile' as root and start the container again",
    ),
    "FH104": Code(
        "policy-untrusted",
        "the compiled policy could have been written by someone other than root",
        "find out who wrote it, then: chown -R root:root /var/lib/fhir-hook; chmod -R go-w /var/lib/fhir-hook; "
        "fhir-hook policy compile",
    ),
    "FH105": Code(
        "log-unwritable",
        "the decision log can't take the record",
        "make room or repair the rights of the log's directory (root: /var/log/fhir-hook, "
        "others: ~/.local/state/fhir-hook) and start the container again",
    ),
    "FH106": Code(
        "attach-failed",
        "the profile could not be attached to the container's first process",
        "see the reason in 'fhir-hook log'; start the container through Podman with the precreate hook where "
        "attaching is not possible",
    ),
    "FH107": Code(
        "plan-lost",
        "the configuration on disk no longer carries the profile that was put into it",
        "look for another hook or tool that edits config.json after fhir-hook",
    ),
    "FH108": Code(
        "annotation-replaces-filter",
        "an annotation makes the runtime replace or bypass the filter",
        "remove the annotation (run.oci.*, krun.*, module.wasm.*) from the image or the command line",
    ),
    "FH109": Code(
        "architecture-unsupported",
        "no profile is compiled for this machine's architecture",
        "fhir-hook supports x86_64 and aarch64; run the server on such a host",
    ),
    "FH110": Code(
        "build-refused",
        "a build container of a FHIR image is refused by the setting builds",
        'set builds = "exempt" in /etc/fhir-hook/config.toml, or build on another host',
    ),
    "FH111": Code(
        "no-own-profile",
        "the image is FHIR, has no profile of its own, and the setting generic refuses such images",
        'write a profile for it, bind one with [[bind]], or set generic = "confine" in /etc/fhir-hook/config.toml',
    ),
    "FH112": Code(
        "undetermined-refused",
        "it can't be known whether the image is FHIR, and the setting undetermined refuses such containers",
        'repair the image store (podman system check), or set undetermined = "start" in /etc/fhir-hook/config.toml',
    ),
    "FH113": Code(
        "internal-error",
        "the hook itself failed",
        "this is a defect of fhir-hook: report it with the record of 'fhir-hook log --code FH113 --json'",
    ),
    "FH114": Code(
        "config-ambiguous",
        "config.json of a FHIR container can't be read, or two parsers would read it differently",
        "repair config.json: no key twice in one object, no key that differs from a known one by case only",
    ),
    "FH115": Code(
        "config-unwritable",
        "the profile could not be written into the container's configuration",
        "make room or repair the rights where the container's bundle lies, and start it again",
    ),
    "FH201": Code("capabilities-dropped", "capabilities that were asked for were dropped", ""),
    "FH202": Code("seccomp-unconfined", "the container was asked to run without a seccomp filter", ""),
    "FH203": Code("privileged", "the container was started with --privileged", ""),
    "FH204": Code("annotation-removed", "an annotation that replaces the filter was removed", ""),
    "FH205": Code("annotation-present", "an annotation for the runtime is present and was left", ""),
    "FH206": Code("profiles-met", "several profiles match equally; what all of them allow is in force", ""),
    "FH207": Code(
        "call-denied-inexpressible",
        "calls are denied whose argument rules of engine and profile can't be expressed in one filter",
        "",
    ),
    "FH208": Code(
        "policy-stale", "profiles or settings changed after the policy was compiled", "run 'fhir-hook policy compile'"
    ),
    "FH209": Code("exec-not-covered", "processes started later by exec do not get this filter (live path)", ""),
    "FH210": Code("not-read-back", "the kernel's copy of the filter could not be read back (rootless)", ""),
    "FH211": Code("complain-mode", "nothing is denied: the profile or the host is in complain mode", ""),
    "FH212": Code("policy-previous", "the last good policy's selectors were used", "run 'fhir-hook policy compile'"),
    "FH213": Code(
        "denials-unobservable",
        "what the container is denied can't be observed",
        "see docs/denials.md; 'fhir-hook profile test' shows what a profile denies",
    ),
    "FH214": Code(
        "labels-of-container",
        "labels that the engine keeps of the container identified it, not those of its image",
        "start it anew from its image",
    ),
    "FH301": Code("store-unreadable", "the image store can't be read", "repair it (podman system check)"),
    "FH302": Code("config-unreadable", "config.json can't be read", "repair config.json"),
    "FH303": Code("selectors-unreadable", "no selectors could be read", "run 'fhir-hook policy compile'"),
    "FH401": Code("build-container", "a build container (Buildah) of a FHIR image is not confined", ""),
}
