"""What one speaker says in one request: as much of the text as it can take, or just the next sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steadyvoice.providers.provider import Offer
from steadyvoice.service.casting import Part
from steadyvoice.service.sentence_finder import ends_by_library
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.markup import MarkedText, Markup, Rendering
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.sentences import is_between_words, leading_piece, leading_sentences
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, has_request_ids

_CONTEXT = 500  # characters of what comes before and after, sent along for the prosody
_SENTENCE = 60  # characters: shorter sentences are said together with the next, for the prosody again
BREATH = 400
"""Characters: a longer sentence is said in parts. It is held back, so it bounds memory, too."""

_ROUNDS = 8  # of looking for a piece that fits with its tags, before it goes without


@dataclass(frozen=True, slots=True)
class Piece:
    """What one speaker says in one request, and how it would say it.

    It speaks for the text from `begin` up to `end`; of a text with markup, `sent` tells what became of that.
    """

    request: SpeechRequest
    offer: Offer
    begin: int
    end: int
    whole: bool = False  # it is all of the text
    sent: Rendering | None = None

    @property
    def length(self) -> int:
        """Characters of the caller's text."""
        return self.end - self.begin


def next_piece(
    part: Part,
    request: SpeechRequest,
    begin: int,
    *,
    marked: MarkedText | None = None,
    by_sentence: bool = False,
    ids: Sequence[str] = (),
    most: int | None = None,
) -> Piece:
    """Cut what this speaker says in one request from the text at `begin`, and how it would say it.

    That is as much as it can, or with `by_sentence` only the next sentence. When a container format must be put
    together from pieces, they are asked for as bare samples. `ids` are this provider's own for the pieces just before.
    Where a piece is held as samples until it is whole, it has at most `most` characters. `marked` is the text, if there
    is markup in it: of that, a speaker gets what it performs.
    """
    limit = part.max_characters
    untouched = part.offer.format == request.format and request.format.codec is not Codec.FLAC  # it is held as samples
    if most and not (
        untouched and (request.format.is_concatenable or len(request.text) <= (limit or len(request.text)))
    ):
        limit = min(limit or most, most)
    language = request.language or (part.offer.declared.language if part.offer.declared else None)
    if marked is None:
        sent, text = None, _next_text(request.text[begin:], limit, by_sentence, language)
        end = begin + len(text)
    else:
        sent = _next_rendering(marked, begin, limit, part.offer.markup, by_sentence, language)
        text, end = sent.text, sent.end
    if end - begin == len(request.text):
        whole = request if text == request.text else replace(request, text=text)
        return Piece(_at_its_pace(whole, part.offer), part.offer, begin, end, True, sent)
    wanted = request.format
    before, behind = _context(request.text, begin, end, marked)
    piece = replace(
        request,
        text=text,
        options=_stitched(request.options, first=begin == 0, last=end == len(request.text)),
        format=wanted if wanted.is_concatenable else AudioFormat(Codec.PCM, wanted.sample_rate),
        previous_text=before or request.previous_text,
        next_text=behind or request.next_text,
        previous_request_ids=tuple(ids),
        like=part.like,
    )
    offer, settled = part.speaker.provider.offer(piece), part.offer
    # Whoever goes by the letters might read a part of the text in another voice than the whole.
    offer = replace(offer, voice=settled.voice, speed=settled.speed, gain=settled.gain)
    return Piece(_at_its_pace(piece, offer), offer, begin, end, sent=sent)


def is_silent(marked: MarkedText, begin: int, performed: Markup) -> bool:
    """Whether nothing of the text from `begin` on is to be spoken by whoever performs so much.

    A text of markup alone goes to a voice that performs it. The end of a text does so only if it is a sound: several
    vendors refuse a request for a pause.
    """
    if marked.words.text[marked.words.index(begin) :].strip():
        return False
    wanted = performed if begin == 0 else performed & Markup.AUDIO_TAGS
    return not any(token.kind in wanted for token in marked.tokens if token.begin >= begin)


def _stitched(options: Mapping[str, Any], *, first: bool, last: bool) -> Mapping[str, Any]:
    """Keep a caller's request ids where they belong: at the beginning of the text, and at its end."""
    if not options or not has_request_ids(options):
        return options
    previous, following = REQUEST_ID_FIELDS
    left_out = {name for name, belongs in ((previous, first), (following, last)) if not belongs}
    return {name: value for name, value in options.items() if name not in left_out}


def _at_its_pace(request: SpeechRequest, offer: Offer) -> SpeechRequest:
    return request if offer.speed is None else replace(request, speed=offer.speed)


def _next_text(rest: str, most: int | None, by_sentence: bool, language: str | None) -> str:
    limit = most or len(rest)
    if by_sentence:
        return leading_sentences(rest, min(limit, BREATH), at_least=_SENTENCE, language=language, find=ends_by_library)
    return leading_piece(rest, limit, language, ends_by_library)


def _next_rendering(
    marked: MarkedText, begin: int, most: int | None, performed: Markup, by_sentence: bool, language: str | None
) -> Rendering:
    """Cut between words, so that what is sent of them, with the markup that is performed, fits."""
    words = marked.words
    first = words.index(begin)
    if marked.is_inside(begin):  # of an element that fits no request: the rest of it goes without its tags
        performed = Markup.NONE
    room = most
    for _ in range(_ROUNDS):
        last = _last_word(marked, first, room, by_sentence, language)
        if room != most and not is_between_words(words.text, last):  # it was cut for the sake of its tags
            break
        end = _place(marked, last)
        sent = marked.rendered(begin, end, performed)
        if most is None or (len(sent.text) <= most and not (performed and marked.is_inside(end))):
            return sent
        room = max(1, min(last - first - 1, (last - first) * most // len(sent.text)))
    last = _last_word(marked, first, most, by_sentence, language)
    return marked.rendered(begin, _place(marked, last), Markup.NONE)


def _place(marked: MarkedText, count: int) -> int:
    """Where in the text the first `count` characters of its words end; markup behind the last goes with it."""
    return marked.words.original(count) if count < len(marked.words.text) else len(marked.text)


def _last_word(marked: MarkedText, first: int, most: int | None, by_sentence: bool, language: str | None) -> int:
    """Where a piece of the words ends that begins at `first`."""
    rest = marked.words.text[first:]
    if not rest:
        return first
    last = first + len(_next_text(rest, most, by_sentence, language))
    one = next((each for each in marked.solid if each.start < last < each.stop), None)
    return one.start if one and one.start > first else last


def _context(text: str, begin: int, end: int, marked: MarkedText | None) -> tuple[str, str]:
    """Characters just before and just behind a piece."""
    if marked:
        text, begin, end = marked.words.text, marked.words.index(begin), marked.words.index(end)
    return text[max(0, begin - _CONTEXT) : begin], text[end : end + _CONTEXT]
