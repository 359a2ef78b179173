"""How a command ends: exit codes that scripts may rely on, and failures that say what, where and what to do."""

from typing import Any, Final

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
TIMED_OUT: Final = 3


class Failed(Exception):
    """The command could not do what was asked. `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "", code: int = FAILED, **facts: Any) -> None:
        """`facts` are for programs."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.facts = facts

    def to_json(self) -> dict[str, Any]:
        """As printed with `-o json`."""
        return {"error": self.message, "hint": self.hint, "exitCode": self.code, **self.facts}
