"""Estimate of the duration of a text when spoken: the usual one, and bounds for a complete answer.

Letters take the time of their script: a Chinese character is a syllable, a Latin letter a third of one. Digits, URLs,
capitals, bracketed words and the like are spoken in several ways, or not at all, so they have a range. Markup, emoji,
punctuation and invisible characters take no time. See docs/length.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from steadyvoice.speech.markup import parse_markup
from steadyvoice.speech.text import SECONDS_PER_CHARACTER
from steadyvoice.speech.writing_systems import count_scripts

FASTEST_ORDINARY_SHARE = 0.62
"""Share of the usual duration that the fastest ordinary voices take: about 270 English words a minute."""

IMPOSSIBLE_SHARE = 0.3
"""Share of the usual duration in which no voice is known to speak: 560 English words a minute."""

SHORT_SECONDS = 3.0
"""Usual seconds below which a text may take any time: pauses and manner decide how long "Hm." is."""

_ENOUGH_PER_ASCII_CHARACTER, _ENOUGH_PER_CHARACTER = 0.05, 0.14
"""Seconds a character that exceed the `shortest` duration of any text: see `is_surely_complete`."""


@dataclass(frozen=True, slots=True)
class DurationEstimate:
    """Estimated duration of one text, in seconds at the usual speed of a voice.

    `plain` is the usual duration of the letters that are surely spoken, in the text's own `script`; `other` that of the
    rest, which may be spoken in several ways, or not at all. `digits` is the shortest reading of its digits ("one
    million"). `longest` allows for all of it to be spelled, slowly. `changes_speed`: its markup asks for another speed.
    """

    script: str
    plain: float
    other: float
    longest: float
    digits: float = 0.0
    changes_speed: bool = False

    @property
    def usual(self) -> float:
        """Usual duration, in seconds."""
        return self.plain + self.other

    @property
    def shortest(self) -> float:
        """Duration with the fastest of ordinary voices, in seconds."""
        return self.at_least(FASTEST_ORDINARY_SHARE)

    def at_least(self, share: float) -> float:
        """Return the least seconds with a voice that needs `share` of the usual duration."""
        return share * (self.plain + self.digits) * (0.5 if self.changes_speed else 1.0)

    @property
    def indicates_rate(self) -> bool:
        """True if a voice's speech rate can be learned from audio of this text: it is mostly plain, and not short."""
        return (
            self.plain >= SHORT_SECONDS and self.other <= _MAX_UNCERTAIN_SHARE * self.plain and not self.changes_speed
        )


_MAX_UNCERTAIN_SHARE = 0.25

NOTHING = DurationEstimate("", 0.0, 0.0, 0.0)


def estimate_duration(text: str) -> DurationEstimate:
    """Estimate the duration of a text when spoken.

    >>> round(estimate_duration("The quick brown fox jumps over the lazy dog.").usual, 1)
    2.6
    >>> round(estimate_duration("敏捷的棕色狐狸跳过了懒狗。").usual, 1)
    2.5
    >>> estimate_duration("... <break time='1s'/> 👍").shortest
    0.0
    """
    if text.isascii() and not _SPECIAL_ASCII.search(text):
        letters = len(text.encode().translate(None, _ASCII_NON_LETTERS))
        if not letters:
            return NOTHING
        plain = letters * _LATIN
        usual = SECONDS_PER_CHARACTER * min(len(text), _MOST_CHARACTERS * letters)
        return DurationEstimate("Latin", plain, usual - plain, _SLOWEST * usual)
    return _estimated(text)


def is_surely_complete(text: str, seconds: float, *, share: float = FASTEST_ORDINARY_SHARE) -> bool:
    """Return whether audio is long enough for any text of this size, whatever its characters.

    A cheap test that nearly every healthy answer passes; False means that the text has to be examined. `share` as in
    `DurationEstimate.at_least`.
    """
    return (
        seconds
        >= len(text)
        * (_ENOUGH_PER_ASCII_CHARACTER if text.isascii() else _ENOUGH_PER_CHARACTER)
        / FASTEST_ORDINARY_SHARE
        * share
    )


def is_pronounceable(text: str) -> bool:
    """Return whether a text has letters or digits outside of its markup, so that a complete answer has audio.

    >>> [is_pronounceable(text) for text in ("Hm.", "7", "...", "👍", "[sighs]", '<break time="1s"/>')]
    [True, True, False, False, False, False]
    """
    if text.isascii() and text.isalnum():
        return True
    if "<" in text or "[" in text or "&" in text:
        text = _MARKUP.sub(" ", text)
    return has_spoken_characters(text)


def requested_pause(text: str) -> float:
    """Return the seconds of silence that the `<break>` tags of a text ask for.

    >>> requested_pause('Wait <break time="1.5s"/> and <break time="500ms" /> see.')
    2.0
    """
    marked = parse_markup(text) if "<" in text else None
    return marked.pause if marked else 0.0


def has_spoken_characters(characters: str) -> bool:
    """Return whether any of these characters is spoken: a letter or digit, but no mark, modifier or emoji."""
    return any(map(_is_spoken_character, characters))


_LATIN = 0.075
_MOST_CHARACTERS = 1.35  # per letter, with blanks and punctuation: more of these take no more time
_SECONDS_PER_LETTER = {
    "Latin": _LATIN,
    "Cyrillic": 0.075,
    "Greek": 0.075,
    "Armenian": 0.075,
    "Georgian": 0.075,
    "Arabic": 0.09,  # short vowels are spoken and not written
    "Hebrew": 0.09,
    "Thaana": 0.1,
    "Devanagari": 0.12,  # vowel signs are marks, which are not counted
    "Bengali": 0.12,
    "Gujarati": 0.12,
    "Gurmukhi": 0.12,
    "Kannada": 0.12,
    "Malayalam": 0.12,
    "Oriya": 0.12,
    "Sinhala": 0.12,
    "Tamil": 0.12,
    "Telugu": 0.12,
    "Thai": 0.08,
    "Lao": 0.08,
    "Khmer": 0.085,
    "Myanmar": 0.09,
    "Tibetan": 0.09,
    "Ethiopic": 0.14,
    "Cherokee": 0.14,
    "Mongolian": 0.075,
    "Hiragana": 0.12,
    "Katakana": 0.12,
    "Hangul": 0.18,
    "Han": 0.21,
}
"""Seconds a letter, pauses and blanks included, at the usual speed of a synthetic voice.

Latin from ElevenLabs' own 1,000 characters a minute; the others from syllables a second (Coupé et al., "Different
languages, similar encoding efficiency", Science Advances 2019) and the syllables that a letter of each script stands
for. They are approximate, and voices differ by a third; so limits are at most FASTEST_ORDINARY_SHARE of them.
"""

# Kanji are told from Chinese characters by kana in the same text.
_KANJI = 0.18
"""Seconds for a Han character among kana: less than in Chinese, as most stand for two short syllables (morae)."""

_UNKNOWN = 0.12  # seconds for a letter of a script that no voice is known to read
_DIGIT_LEAST, _DIGIT, _DIGIT_MOST = 0.08, 0.3, 1.0
_SYMBOL, _SYMBOL_MOST = 0.3, 1.0  # "%" and the like, if they are read at all
_EMOJI_MOST = 2.0
_SPELLED = 0.3  # seconds for a letter of an abbreviation, or of a URL
_SLOWEST = 2.5  # times the usual duration
_SPELLED_MOST = 0.6

_JAPANESE = ("Hiragana", "Katakana", "Han")

_ASCII_NON_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_SPOKEN_SYMBOLS = "%$€£¥₹₽₩&+=@°§×÷±√∞≈≠≤≥"

# Anything in a text of ASCII that is not just words.
_SPECIAL_ASCII = re.compile(
    r"[0-9<\[{(*/@#$%&+=\\_|^~`]|:[A-Za-z]|[A-Z][A-Z.]|www\.|[a-z]\.[a-z]|[A-Za-z]{31}|([A-Za-z])\1{3}"
)

_TAG = r"</?[A-Za-z!?][^<>]{0,500}>"
_BRACKETS = r"\[[^\[\]\n]{1,60}\]"
_MARKUP = re.compile(rf"{_TAG}|{_BRACKETS}|&#?\w{{1,10}};")

_REPLACED = (
    r"<(?P<element>sub|audio|desc|say-as|script|style|metadata|spell)\b[^<>]{0,500}(?<!/)>"
    r"[^<]{0,2000}</(?P=element)\s{0,9}>"
)
_COMMENT = r"<!--.{0,500}?-->"
# All repetitions are bounded: without that, a host name without an end took 41 s to be rejected.
_URL = (
    r"(?:https?|ftp)://[^\s<>]+|\bwww\.[^\s<>]+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]+"
    r"|(?<![\w.-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.(?:com|org|net|io|ai|dev|app|edu|gov|de|fr|uk|jp|cn|ru|co|info|eu)\b(?:/[^\s<>]*)?"
    r"|(?<![\w<])(?:[A-Za-z]:\\|~?/)[\w.-]+(?:[/\\][\w.-]+)+/?"
)
_IPA = r"/(?=[^/\n]{0,60}[\u0250-\u02ff])[^/\n]{1,60}/"
_ASIDE = (
    r"\([^()\n]{1,120}\)|（[^（）\n]{1,120}）|【[^【】\n]{1,120}】|\*{1,2}[^*\n]{1,30}\*{1,2}|\{{1,2}[^{}\n]{1,60}\}{1,2}"
    r"|(?<!\*)\*(?![*\s])[^*\n]{1,120}\*(?!\*)"
    r"|```.{0,2000}?```|(?<![\w:]):[A-Za-z][\w+-]{1,30}:(?![\w:])"
)
_CAPITALS = r"\b(?:[A-Z]\.?){2,}(?:s\b|\b)?"
_GIBBERISH = r"[A-Za-z0-9+/=_\u00c0-\u024f\u0370-\u052f-]{31,}"
_DRAWN = r"(?P<letter>[^\W\d_])(?P=letter){3,}"

_UNSURE_PARTS = re.compile(
    rf"(?P<skip>{_COMMENT}|{_REPLACED}|{_TAG})|(?P<brackets>{_BRACKETS})|(?P<url>{_URL})|(?P<ipa>{_IPA})"
    rf"|(?P<aside>{_ASIDE})|(?P<entity>&#?\w{{1,10}};)|(?P<gibberish>{_GIBBERISH})|(?P<capitals>{_CAPITALS})"
    rf"|(?P<drawn>{_DRAWN})",
    re.DOTALL,
)
_SPEED = re.compile(r"""\b(?:rate|speed|ratio|duration)\s*=""", re.IGNORECASE)


def _estimated(text: str) -> DurationEstimate:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # Korean may be decomposed into letters
    other = longest = 0.0
    changes_speed = False

    def leave_out(match: re.Match[str]) -> str:
        nonlocal other, longest, changes_speed
        part, kind = match.group(), match.lastgroup
        letters = sum(map(str.isalnum, part))
        longest += _SPELLED_MOST * letters
        if kind == "skip":
            changes_speed = changes_speed or bool(_SPEED.search(part))
            content = part if "@" in part else _MARKUP.sub("", part) if not part.startswith("<!--") else ""
            pause = requested_pause(part) if "break" in part else 0.0
            other += _LATIN * sum(map(str.isalnum, content)) + pause
            longest += 2 * pause
        elif kind == "drawn":
            other += 3 * _LATIN
        elif kind == "capitals":
            other += min(_SPELLED, 2 * _LATIN) * letters
        elif kind == "gibberish":
            other += SECONDS_PER_CHARACTER * letters
        elif kind not in ("brackets", "entity", "ipa"):
            other += _LATIN * letters
        return " "

    shouted = _is_shouted(text)
    rest = _UNSURE_PARTS.sub(leave_out, text.lower() if shouted else text)
    counted = Counter(rest)
    digits = sum(count for character, count in counted.items() if character.isdecimal())
    symbols = sum(counted[symbol] for symbol in _SPOKEN_SYMBOLS)
    emoji = sum(count for character, count in counted.items() if character > "\u2190" and _is_emoji(character))
    other += _DIGIT * digits + _SYMBOL * symbols
    longest += _DIGIT_MOST * digits + _SYMBOL_MOST * symbols + _EMOJI_MOST * emoji
    found = count_scripts(rest)
    japanese = "Hiragana" in found or "Katakana" in found
    taken = {
        script: count * (_KANJI if japanese and script == "Han" else _SECONDS_PER_LETTER.get(script, _UNKNOWN))
        for script, count in found.items()
    }
    main = _main_script(found, japanese=japanese)
    plain = sum(seconds for script, seconds in taken.items() if _is_read(script, main))
    other += sum(taken.values()) - plain
    longest += (_SPELLED_MOST / _LATIN if shouted else _SLOWEST) * sum(taken.values())
    return DurationEstimate(main, plain, other, longest, _DIGIT_LEAST * digits, changes_speed)


def _main_script(found: Counter[str], *, japanese: bool) -> str:
    """Return the script of most letters; "Japanese" stands for its three scripts."""
    letters = found
    if japanese:
        letters = Counter({script: count for script, count in found.items() if script not in _JAPANESE})
        letters["Japanese"] = sum(found[script] for script in _JAPANESE)
    return letters.most_common(1)[0][0] if letters else ""


def _is_read(script: str, main: str) -> bool:
    """Return whether letters of a script are surely spoken in a text mostly in `main`. Others may be skipped."""
    if script not in _SECONDS_PER_LETTER:
        return False
    return script == main or script == "Latin" or (main == "Japanese" and script in _JAPANESE)


def _is_shouted(text: str) -> bool:
    """Return whether all of a text is in capitals, which then mark no abbreviations. It may still be spelled."""
    return text.isupper() and " " in text.strip()


@lru_cache(4096)
def _is_spoken_character(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo", "Nd", "Nl", "No") or character in "々ー"


@lru_cache(4096)
def _is_emoji(character: str) -> bool:
    return unicodedata.category(character) == "So"
