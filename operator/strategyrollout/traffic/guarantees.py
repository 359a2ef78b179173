"""What a provider promises. Declared in code, so that status, docs and tests speak of the same thing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guarantees:
    """Which of the rules of an assignment a provider keeps."""

    acknowledged: bool
    """Its consumers confirm each epoch, so that a move waits for them."""
    by_unit: bool
    """A unit stays with one revision; shares are exact by unit."""
    drained: bool
    """No unit is served by two revisions at once while it moves."""
    note: str = ""
    """What users should know, in a sentence."""
