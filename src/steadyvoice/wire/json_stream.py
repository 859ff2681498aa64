"""Streaming JSON parser: long strings and lists come in parts, so that no step handles much of a long text.

Parsers in C hold the interpreter until the whole text is parsed, in a worker thread as well. Here, regular expressions
find where a part may end, and each part is parsed by itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

PART_SIZE = 32 * 1024
"""Characters of the longest part, of the longest number, and of the longest white space within a document."""

LIST_PART_SIZE = 8 * 1024
"""Characters of the longest part of a list: each item becomes an object, which is larger than its text."""

PART_COST = 512
"""Characters that a part costs besides its own, where work is counted in characters."""

_MAX_DEPTH = 8  # of objects and lists within each other

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_SCALAR = rf'[ \t\r\n]*+(?:{_STRING}|[^ \t\r\n"\[\]{{}},:]++)[ \t\r\n]*+'
_BLANK = re.compile(r"[ \t\r\n]*+")
_NUMBER_OR_NAME = re.compile(r'[^ \t\r\n"\[\]{},:]++')
_PART_OF_STRING = re.compile(r'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+')
_ITEMS = re.compile(rf"(?:{_SCALAR},)++")
_LAST_ITEM = re.compile(rf"{_SCALAR}\]")
_KEY = re.compile(rf"[ \t\r\n]*+({_STRING})[ \t\r\n]*+:[ \t\r\n]*+")
_END_OF_OBJECT = re.compile(r"[ \t\r\n]*+\}")
_END_OF_LIST = re.compile(r"[ \t\r\n]*+\]")
_COMMA = re.compile(r"[ \t\r\n]*+,")


class JSONPart(NamedTuple):
    """Part of a value.

    - `path`: names of the members that lead to it, with "*" for a list within a list; None for white space.
    - `value`: a number, boolean or None; the next characters of a string; the next items of a list, as a list.
    - `size`: characters of the text that it stands for.
    """

    path: tuple[str, ...] | None
    value: Any
    size: int


class Base64Parts:
    """Base64 decoder of a string that comes in parts."""

    def __init__(self) -> None:
        self._rest = ""

    def decode(self, part: str) -> bytes:
        """Return the bytes that the next part completes. Raises ValueError."""
        text = self._rest + part
        end = len(text) // 4 * 4
        self._rest = text[end:]
        return base64.b64decode(text[:end], validate=True)

    def finish(self) -> None:
        """End the string. Raises ValueError if its last group is incomplete."""
        if self._rest:
            raise ValueError("audio is not base64")


def parse_in_parts(text: str) -> Iterator[JSONPart]:
    """Parse a JSON document into parts, in the order of the text. Raises ValueError, possibly behind some parts.

    A string or list in one piece is one part. Empty objects have none. Strings and lists within a list that has
    anything but numbers, booleans, null and strings of up to `LIST_PART_SIZE` have paths of their own.
    """
    return _PartParser(text).document()


class _PartParser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def document(self) -> Iterator[JSONPart]:
        yield from self._blanks()
        yield from self._value(())
        yield from self._blanks()
        if self._at != len(self._text):
            raise self._error()

    def _blanks(self) -> Iterator[JSONPart]:
        """Skip the white space around the document, with which some servers fill messages up."""
        while blanks := self._take(_BLANK):
            yield JSONPart(None, None, len(blanks))

    def _value(self, path: tuple[str, ...]) -> Iterator[JSONPart]:
        if len(path) > _MAX_DEPTH:
            raise ValueError(f"JSON of more than {_MAX_DEPTH} levels")
        self._take(_BLANK)
        match self._text[self._at : self._at + 1]:
            case "{":
                return self._object(path)
            case "[":
                return self._list(path)
            case '"':
                return self._string(path)
        found = self._take(_NUMBER_OR_NAME)
        return iter((JSONPart(path, json.loads(found), len(found)),))

    def _object(self, path: tuple[str, ...]) -> Iterator[JSONPart]:
        self._at += 1
        if self._take(_END_OF_OBJECT):
            return
        while key := _KEY.match(self._text, self._at, self._at + PART_SIZE):
            self._at = key.end()
            yield from self._value((*path, json.loads(key[1])))
            if not self._take(_COMMA):
                break
        else:
            raise self._error()
        self._expect(_END_OF_OBJECT)

    def _list(self, path: tuple[str, ...]) -> Iterator[JSONPart]:
        self._at += 1
        if self._take(_END_OF_LIST):
            yield JSONPart(path, [], 2)
            return
        while True:
            if items := self._take(_ITEMS, LIST_PART_SIZE):
                yield JSONPart(path, json.loads(f"[{items[:-1]}]"), len(items))
            elif last := self._take(_LAST_ITEM, LIST_PART_SIZE):
                yield JSONPart(path, json.loads(f"[{last}"), len(last))
                return
            else:
                yield from self._value((*path, "*"))
                if not self._take(_COMMA):
                    self._expect(_END_OF_LIST)
                    return

    def _string(self, path: tuple[str, ...]) -> Iterator[JSONPart]:
        self._at += 1
        while True:
            part = self._take(_PART_OF_STRING)
            yield JSONPart(path, json.loads(f'"{part}"'), len(part))
            if self._text.startswith('"', self._at):
                self._at += 1
                return
            if not part:
                raise self._error()

    def _expect(self, pattern: re.Pattern[str]) -> None:
        if not self._take(pattern):
            raise self._error()

    def _take(self, pattern: re.Pattern[str], size: int = PART_SIZE) -> str:
        """Take what matches next; "" if nothing does within so many characters."""
        found = pattern.match(self._text, self._at, self._at + size)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _error(self) -> ValueError:
        return ValueError(f"malformed JSON at character {self._at}")
