"""Equal parts of thousands of objects are kept once: most of a Deployment says what every other Deployment says.

Why not classes for what is read of each kind: what must be compared with the live object is all of it, and what people
write into a template is theirs to choose. Sharing drops nothing, so nobody has to know of it.
"""

from sys import intern
from typing import Any

_WORD = 64
_ONCE = 8_192
_OFTEN = 16_384


class Sharing:
    """Remembers the parts met lately, and for longer those that were met again. Shared parts must not be changed."""

    def __init__(self) -> None:
        self._once: dict[int, Any] = {}
        self._often: dict[int, Any] = {}

    def share(self, value: Any) -> Any:
        """A value equal to this one, to the type of every leaf and the order of keys, made of shared parts."""
        kind = value.__class__
        if kind is str:
            return intern(value) if len(value) <= _WORD else self._known(hash(value), value)
        if kind is dict:
            made: dict[str, Any] = {}
            marks: list[Any] = []
            for key, item in value.items():
                # Most of what is in a dict are words; a call for each of them is a third of the time.
                if item.__class__ is str and len(item) <= _WORD:
                    made[intern(key)] = word = intern(item)
                    marks.append(word)
                else:
                    made[intern(key)] = part = self.share(item)
                    marks.append(_mark(part))
            return self._known(hash((*made, *marks)), made)
        if kind is list:
            items = [self.share(item) for item in value]
            return self._known(hash((None, *map(_mark, items))), items)
        return value

    def _known(self, mark: int, value: Any) -> Any:
        found = self._often.get(mark)
        if found is not None and found == value:
            return found
        found = self._once.get(mark)
        if found is not None and found == value:
            del self._once[mark]
            if len(self._often) >= _OFTEN:
                self._often.clear()
            self._often[mark] = found
            return found
        if len(self._once) >= _ONCE:
            self._once.clear()
        self._once[mark] = value
        return value


def _mark(value: Any) -> Any:
    """Tells apart what `==` does not: 1, 1.0 and True. Shared parts are one object, so its place will do."""
    kind = value.__class__
    if kind is str:
        return value
    return id(value) if kind is dict or kind is list else (kind, value)
