"""The refusals, worded once: each names the construct and the way out."""

from __future__ import annotations

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError


def refusal(
    message: str, hint: str | None = None, detail: str | None = None, position: int | None = None
) -> DomicileError:
    """0A000: what was asked can't be answered yet over regions, or could not be right."""
    return DomicileError(FEATURE_NOT_SUPPORTED, message, detail=detail, hint=hint, position=position)


class Decline(Exception):
    """Raised inside a strategy where it does not apply; the reason is shown by EXPLAIN, or becomes the refusal."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


ONE_REGION_HINT = "Compare the residency key with a value, so that one region can answer."
EACH_REGION_HINT = "Run it in each region, at that region's own server."
"""For what has to reach every region's server and can't yet through the gateway."""
