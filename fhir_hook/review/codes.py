"""The stable codes of lint: they continue those of authoring.finding and, like them, never change their meaning.

P6xx say that something is above the ceiling, P7xx that a profile could be better founded or better written.
"""

from __future__ import annotations

from fhir_hook.authoring import finding

NOTE = "note"
LEVELS = (finding.ERROR, finding.WARNING, NOTE)

TITLES = {
    **finding.TITLES,
    "P601": "above the ceiling: no profile may allow this",
    "P602": "near the ceiling: no FHIR server is known to need this",
    "P603": "a capability above the ceiling",
    "P604": "a capability that the servers here do without",
    "P605": "programs may gain privileges",
    "P606": "more conditions on one call than can be looked at",
    "P607": "a vendor decides what is the administrator's to decide",
    "P701": "a rule without effect",
    "P702": "a group that adds nothing",
    "P703": "a group of whose own calls none was seen",
    "P704": "a group that fits better than rules",
    "P705": "a rule without a reason",
    "P706": "calls that no recording saw and no reason explains",
    "P707": "no provenance",
    "P708": "a recording that can't be found or read",
    "P709": "clone3 does not answer ENOSYS",
    "P710": "a newer call is denied with an errno that libraries don't fall back from",
    "P711": "a call that the runtimes need is missing",
    "P712": "calls of another ABI are let through",
}
