"""Body of a request that is complete but for the text to be spoken: JSON with one field left open, or SSML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any
from xml.sax.saxutils import escape, quoteattr


@dataclass(frozen=True, slots=True)
class BodyTemplate:
    """Bytes before and behind the text, and the function that quotes the text between them.

    - `before`: bytes before the text.
    - `after`: bytes behind the text.
    - `quote`: function that escapes the text.
    - `document`: the fields other than the text.
    - `language`: BCP 47, of the text.
    - `voice`: name of the voice in the tag `<voice>`.
    - `prosody`: attributes of the tag `<prosody>`.
    """

    before: bytes
    after: bytes
    quote: Callable[[str], str] = encode_basestring_ascii

    @classmethod
    def of_json(cls, document: Mapping[str, Any], text: str) -> BodyTemplate:
        """Return a JSON document whose field `text` is open; dots lead into objects, as in "input.text".

        Raises TypeError, ValueError or RecursionError when the document cannot be encoded.
        """
        field, *inner = text.split(".")
        if inner:
            nested: dict[str, Any] = {**document.get(field, {})}
            template = cls.of_json(nested, ".".join(inner))
            rest = {name: value for name, value in document.items() if name != field}
            outer = cls.of_json(rest, field)
            return cls(outer.before + template.before, template.after + outer.after)
        rest_of_document = json.dumps(document, allow_nan=False).encode()
        after = b"}" if rest_of_document == b"{}" else b", " + rest_of_document[1:]
        return cls(b"{%b: " % json.dumps(field).encode(), after)

    @classmethod
    def of_ssml(
        cls, *, language: str, voice: str | None = None, prosody: Mapping[str, str] | None = None
    ) -> BodyTemplate:
        """Return an SSML document around a text, whose own markup characters are escaped.

        https://www.w3.org/TR/speech-synthesis11/
        """
        tags = [f'<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang={quoteattr(language)}>']
        tags += [f"<voice name={quoteattr(voice)}>"] if voice else []
        attributes = "".join(f" {name}={quoteattr(value)}" for name, value in (prosody or {}).items())
        tags += [f"<prosody{attributes}>"] if attributes else []
        ends = ["</prosody>"] * bool(attributes) + ["</voice>"] * bool(voice) + ["</speak>"]
        return cls("".join(tags).encode(), "".join(ends).encode(), quote_xml)


# XML 1.0 has no way to write the others: a vendor would refuse the whole document.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def quote_xml(text: str) -> str:
    """Return a text as it is written in XML, with a blank in place of each character that XML cannot have.

    >>> quote_xml("1 < 2")
    '1 &lt; 2'
    """
    return escape(_NOT_IN_XML.sub(" ", text))
