"""Where the installed product keeps its files (FHS 3.0; docs/architecture.md has the table).

The hook reads no environment variable and no option for any of these: whoever starts a container
must not be able to point it elsewhere.
"""

from __future__ import annotations

LIBRARY = "/usr/lib/fhir-hook"
HOOK = "/usr/libexec/fhir-hook/hook"
REFUSED = "/usr/libexec/fhir-hook/refused"
SHARE = "/usr/share/fhir-hook"
SHIPPED_PROFILES = SHARE + "/profiles"
LOCAL_PROFILES = "/etc/fhir-hook/profiles"
CONFIG = "/etc/fhir-hook/config.toml"
CONFIG_DROPINS = "/etc/fhir-hook/config.d"
STATE = "/var/lib/fhir-hook"
SELECTORS = STATE + "/selectors.json"
SELECTORS_PREVIOUS = STATE + "/selectors.previous.json"
LOG_DIRECTORY = "/var/log/fhir-hook"
LOG_NAME = "decisions.jsonl"
USER_STATE = ".local/state/fhir-hook"
DIST_PACKAGES = "/usr/lib/python3/dist-packages"
