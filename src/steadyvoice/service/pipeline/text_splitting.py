"""Splitting of a text at sentence boundaries into the pieces of one request; texts without words, such as emoji only.

Sentence boundaries come from the library `sentencex`, in some 300 languages.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from steadyvoice.providers.base import SynthesisOffer
from steadyvoice.service.pipeline.candidates import Candidate
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.markup import MarkedText, Markup, Rendering
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.sentences import ends_by_marks, is_between_words, leading_piece, leading_sentences
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, has_request_ids


def find_sentence_ends(text: str, language: str) -> Iterable[int]:
    """Return the offsets behind which a sentence may begin; those behind marks if the library is missing."""
    try:
        from sentencex import segment  # imported late: it takes four megabytes, and few requests are split
    except ImportError:
        return ends_by_marks(text, language)
    try:
        pieces = segment(language, text.translate(_SPACES))
    except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException:  # a panic of its Rust code is no Exception
        return ends_by_marks(text, language)
    if sum(map(len, pieces)) != len(text):  # its offsets would split at the wrong places
        return ends_by_marks(text, language)
    ends = accumulate(map(len, pieces))
    if "\u17d4" in text or "\u17d5" in text:
        return sorted({*ends, *(mark.end() for mark in _KHMER_ENDS.finditer(text))})
    return ends


# A space of several bytes behind a capital letter makes sentencex panic in some languages. U+3000 is the last of
# Unicode's spaces.
_SPACES = {code: "\n" if code in (0x2028, 0x2029) else " " for code in range(0x80, 0x3001) if chr(code).isspace()}
_KHMER_ENDS = re.compile(r"[\u17d4\u17d5]+\s*")  # marks that the library does not know


_CONTEXT_CHARACTERS = 500  # characters before and after the piece that are sent along for the prosody
_MIN_SENTENCE = 60  # characters: shorter sentences are sent together with the next, for the prosody as well
MAX_SENTENCE = 400
"""Characters of the longest piece that is held back: a longer sentence is split. This bounds memory, too."""

_FITTING_ROUNDS = 8  # attempts to find a piece that fits with its tags, before the tags are dropped


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Piece of the text that one request carries, and the offer for it.

    It covers the caller's text from `begin` up to `end`; of a text with markup, `sent` is its rendering.
    """

    request: SpeechRequest
    offer: SynthesisOffer
    begin: int
    end: int
    whole: bool = False  # it is all of the text
    sent: Rendering | None = None

    @property
    def length(self) -> int:
        """Number of characters of the caller's text."""
        return self.end - self.begin


def next_piece(
    candidate: Candidate,
    request: SpeechRequest,
    begin: int,
    *,
    marked: MarkedText | None = None,
    by_sentence: bool = False,
    ids: Sequence[str] = (),
    max_characters: int | None = None,
) -> TextPiece:
    """Return the next piece of the text from `begin` on for this candidate, and its offer.

    That is as much as one request may carry, or with `by_sentence` only the next sentence. When a container format must
    be put together from pieces, they are requested as bare samples. `ids` are this provider's request ids of the pieces
    just before. A piece that is held as samples until it is complete has at most `max_characters`. `marked` is the
    text, if there is markup in it, of which the candidate gets what it performs.
    """
    limit = candidate.max_characters
    # FLAC is held as samples.
    untouched = candidate.offer.format == request.format and request.format.codec is not Codec.FLAC
    if max_characters and not (
        untouched and (request.format.is_concatenable or len(request.text) <= (limit or len(request.text)))
    ):
        limit = min(limit or max_characters, max_characters)
    language = request.language or (candidate.offer.declared.language if candidate.offer.declared else None)
    if marked is None:
        sent, text = None, _next_text(request.text[begin:], limit, by_sentence, language)
        end = begin + len(text)
    else:
        sent = _next_rendering(marked, begin, limit, candidate.offer.markup, by_sentence, language)
        text, end = sent.text, sent.end
    if end - begin == len(request.text):
        whole = request if text == request.text else replace(request, text=text)
        return TextPiece(_with_speed_of(whole, candidate.offer), candidate.offer, begin, end, True, sent)
    target = request.format
    before, behind = _context(request.text, begin, end, marked)
    piece = replace(
        request,
        text=text,
        options=_with_stitching_ids(request.options, first=begin == 0, last=end == len(request.text)),
        format=target if target.is_concatenable else AudioFormat(Codec.PCM, target.sample_rate),
        previous_text=before or request.previous_text,
        next_text=behind or request.next_text,
        previous_request_ids=tuple(ids),
        like=candidate.like,
    )
    offer, original_offer = candidate.guarded.provider.offer(piece), candidate.offer
    # A provider that detects the language might choose another voice for a part of the text than for the whole.
    offer = replace(offer, voice=original_offer.voice, speed=original_offer.speed, gain=original_offer.gain)
    return TextPiece(_with_speed_of(piece, offer), offer, begin, end, sent=sent)


def has_no_words(marked: MarkedText, begin: int, performed: Markup) -> bool:
    """Return whether the text from `begin` on has nothing to speak for a voice that performs this markup.

    A text of markup alone goes to a voice that performs it. The end of a text does so only if it is a sound: several
    vendors refuse a request for a pause.
    """
    if marked.words.text[marked.words.index(begin) :].strip():
        return False
    relevant = performed if begin == 0 else performed & Markup.AUDIO_TAGS
    return not any(token.kind in relevant for token in marked.tokens if token.begin >= begin)


def _with_stitching_ids(options: Mapping[str, Any], *, first: bool, last: bool) -> Mapping[str, Any]:
    """Return the options with a caller's request ids at the beginning and the end of the text only."""
    if not options or not has_request_ids(options):
        return options
    previous, following = REQUEST_ID_FIELDS
    left_out = {name for name, belongs in ((previous, first), (following, last)) if not belongs}
    return {name: value for name, value in options.items() if name not in left_out}


def _with_speed_of(request: SpeechRequest, offer: SynthesisOffer) -> SpeechRequest:
    return request if offer.speed is None else replace(request, speed=offer.speed)


def _next_text(rest: str, max_characters: int | None, by_sentence: bool, language: str | None) -> str:
    limit = max_characters or len(rest)
    if by_sentence:
        return leading_sentences(
            rest, min(limit, MAX_SENTENCE), at_least=_MIN_SENTENCE, language=language, find=find_sentence_ends
        )
    return leading_piece(rest, limit, language, find_sentence_ends)


def _next_rendering(
    marked: MarkedText,
    begin: int,
    max_characters: int | None,
    performed: Markup,
    by_sentence: bool,
    language: str | None,
) -> Rendering:
    """Return the next words, split so that they fit together with the markup that is performed."""
    words = marked.words
    first = words.index(begin)
    if marked.is_inside(begin):  # of an element that fits no request: the rest of it goes without its tags
        performed = Markup.NONE
    room = max_characters
    for _ in range(_FITTING_ROUNDS):
        last = _end_of_words(marked, first, room, by_sentence, language)
        if room != max_characters and not is_between_words(words.text, last):  # it was split for the sake of its tags
            break
        end = _end_in_text(marked, last)
        sent = marked.rendered(begin, end, performed)
        if max_characters is None or (len(sent.text) <= max_characters and not (performed and marked.is_inside(end))):
            return sent
        room = max(1, min(last - first - 1, (last - first) * max_characters // len(sent.text)))
    last = _end_of_words(marked, first, max_characters, by_sentence, language)
    return marked.rendered(begin, _end_in_text(marked, last), Markup.NONE)


def _end_in_text(marked: MarkedText, count: int) -> int:
    """Return the end in the text of the first `count` characters of its words; markup behind the last is included."""
    return marked.words.original(count) if count < len(marked.words.text) else len(marked.text)


def _end_of_words(
    marked: MarkedText, first: int, max_characters: int | None, by_sentence: bool, language: str | None
) -> int:
    """Return the end of a piece of the words that begins at `first`."""
    rest = marked.words.text[first:]
    if not rest:
        return first
    last = first + len(_next_text(rest, max_characters, by_sentence, language))
    one = next((each for each in marked.solid if each.start < last < each.stop), None)
    return one.start if one and one.start > first else last


def _context(text: str, begin: int, end: int, marked: MarkedText | None) -> tuple[str, str]:
    """Return the characters just before and just behind a piece."""
    if marked:
        text, begin, end = marked.words.text, marked.words.index(begin), marked.words.index(end)
    return text[max(0, begin - _CONTEXT_CHARACTERS) : begin], text[end : end + _CONTEXT_CHARACTERS]
