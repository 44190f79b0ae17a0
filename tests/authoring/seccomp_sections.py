"""Hypothesis strategies: arguments, conditions and linux.seccomp sections about one harmless call (getppid)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fhir_hook.core import condition

CALL = "getppid"
ANY_OPERATOR = condition.OPERATORS
PLAIN_OPERATORS = ("SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ")
CORNERS = [0, 1, 2, 3, 0xF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 0xFFFFFFFF << 32, (1 << 64) - 1]
ARGUMENT = st.one_of(st.sampled_from(CORNERS), st.integers(0, (1 << 64) - 1))


@st.composite
def conditions(draw: st.DrawFn, operators: tuple[str, ...], most: int = 3) -> list[dict[str, Any]]:
    """One rule's `args`: up to `most` arguments, each once."""
    indices = draw(st.lists(st.integers(0, 2), unique=True, min_size=1, max_size=most))
    return [
        {"index": index, "op": draw(st.sampled_from(operators)), "value": draw(ARGUMENT), "valueTwo": draw(ARGUMENT)}
        for index in indices
    ]


@st.composite
def sections(
    draw: st.DrawFn, operators: tuple[str, ...] = PLAIN_OPERATORS, most_rules: int = 4, actions: int = 1
) -> dict[str, Any]:
    """A section whose rules on one call have up to `actions` different answers, default ENOSYS."""
    choices = [("SCMP_ACT_ALLOW", None), ("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 13)][:actions]
    rules = []
    for _ in range(draw(st.integers(1, most_rules))):
        action, errno = draw(st.sampled_from(choices))
        rule: dict[str, Any] = {"names": [CALL], "action": action, "args": draw(conditions(operators))}
        if errno is not None:
            rule["errnoRet"] = errno
        rules.append(rule)
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules}
