"""Where the installed product keeps its files (FHS 3.0; docs/architecture.md has the table).

The hook reads no environment variable and no option for any of these: whoever starts a container
must not be able to point it elsewhere.
"""

from __future__ import annotations

LIBRARY = "/usr/lib/fhir-hook"
HOOK = "/usr/libexec/fhir-hook/hook"
REFUSED = "/usr/libexec/fhir-hook/refused"
SHARE = "/usr/share/fhir-hook"
OCI_HOOK = "/usr/share/containers/oci/hooks.d/50-fhir-hook.json"
OCI_HOOK_SOURCE = SHARE + "/oci-hooks.d/50-fhir-hook.json"
PODMAN_HOOKS = SHARE + "/podman-hooks.d"
PODMAN_HOOK = PODMAN_HOOKS + "/50-fhir-hook.json"
PODMAN_DROPIN = "/etc/containers/containers.conf.d/50-fhir-hook.conf"
SHIPPED_PROFILES = SHARE + "/profiles"
SHIPPED_PROOFS = SHARE + "/proven"
LOCAL_PROFILES = "/etc/fhir-hook/profiles"
CONFIG = "/etc/fhir-hook/config.toml"
SIGNERS = "/etc/fhir-hook/signers"
CONFIG_DROPINS = "/etc/fhir-hook/config.d"
STATE = "/var/lib/fhir-hook"
SELECTORS = STATE + "/selectors.json"
PROOFS = STATE + "/proven"
REFUSED_EDIT = STATE + "/refused.json"
DISABLED = STATE + "/disabled"
SELECTORS_PREVIOUS = STATE + "/selectors.previous.json"
LOG_DIRECTORY = "/var/log/fhir-hook"
LOG_NAME = "decisions.jsonl"
USER_STATE = ".local/state/fhir-hook"
CONTAINERD_TASKS = "io.containerd.runtime.v2.task"  # in the path of every bundle that containerd makes
DIST_PACKAGES = "/usr/lib/python3/dist-packages"
