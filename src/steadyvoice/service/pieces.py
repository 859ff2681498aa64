"""What one speaker says in one request: as much of the text as it can take, or just the next sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from steadyvoice.providers.provider import Offer
from steadyvoice.service.casting import Part
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import first_piece, first_sentences
from steadyvoice.wire.elevenlabs_request_ids import STITCHING, stitches

_CONTEXT = 500  # characters of what comes before and after, sent along for the prosody
_SENTENCE = 60  # characters: shorter sentences are said together with the next, for the prosody again
BREATH = 400
"""Characters: a longer sentence is said in parts. It is held back, so it bounds memory, too."""


def next_piece(
    part: Part,
    request: SpeechRequest,
    begin: int,
    *,
    by_sentence: bool = False,
    ids: Sequence[str] = (),
    most: int | None = None,
) -> tuple[SpeechRequest, Offer]:
    """Cut what this speaker says in one request from the text at `begin`, and how it would say it.

    That is as much as it can, or with `by_sentence` only the next sentence. When a container format must be put
    together from pieces, they are asked for as bare samples. `ids` are this provider's own for the pieces just before.
    Where a piece is held as samples until it is whole, it has at most `most` characters.
    """
    limit = part.offer.max_characters
    untouched = part.offer.format == request.format
    if most and not (untouched and (request.format.joinable or len(request.text) <= (limit or len(request.text)))):
        limit = min(limit or most, most)
    text = _next_text(request.text[begin:], limit, by_sentence)
    end = begin + len(text)
    if text == request.text:
        return _at_its_pace(request, part.offer), part.offer
    wanted = request.format
    piece = replace(
        request,
        text=text,
        options=_stitched(request.options, first=begin == 0, last=end == len(request.text)),
        format=wanted if wanted.joinable else AudioFormat(Codec.PCM, wanted.sample_rate),
        previous_text=request.text[max(0, begin - _CONTEXT) : begin] or request.previous_text,
        next_text=request.text[end : end + _CONTEXT] or request.next_text,
        previous_request_ids=tuple(ids),
        like=part.like,
    )
    offer, settled = part.speaker.provider.offer(piece), part.offer
    # Whoever goes by the letters might read a part of the text in another voice than the whole.
    offer = replace(offer, voice=settled.voice, speed=settled.speed, gain=settled.gain)
    return _at_its_pace(piece, offer), offer


def _stitched(options: Mapping[str, Any], *, first: bool, last: bool) -> Mapping[str, Any]:
    """Keep a caller's request ids where they belong: at the beginning of the text, and at its end."""
    if not options or not stitches(options):
        return options
    previous, following = STITCHING
    left_out = {name for name, belongs in ((previous, first), (following, last)) if not belongs}
    return {name: value for name, value in options.items() if name not in left_out}


def _at_its_pace(request: SpeechRequest, offer: Offer) -> SpeechRequest:
    return request if offer.speed is None else replace(request, speed=offer.speed)


def _next_text(rest: str, most: int | None, by_sentence: bool) -> str:
    limit = most or len(rest)
    if by_sentence:
        return first_sentences(rest, min(limit, BREATH), at_least=_SENTENCE)
    return first_piece(rest, limit)
