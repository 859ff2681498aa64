"""Sentence segmentation: the places at which a text is split into requests.

A finder proposes ends of sentences: by punctuation marks, or the library that the service uses. Rejected are proposals
behind abbreviations, ordinals, numbers of a list and quotations, and before lower case. A false end is audible, as a
full stop in the middle of a name; a missed one only costs latency. In doubt, the sentence continues. Figures are in
docs/decisions/0029-sentence-segmentation.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from steadyvoice.speech.writing_systems import LATIN, count_scripts, scripts_of_languages, usual_language


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


BEFORE_NAMES = _set(
    """
    dr mr mrs ms mx messrs mmes prof profs jas wm hon rev fr sr sra srta sres dra prof.ª gen col maj capt cpt cmdr lt
    sgt cpl adm gov
    pres sen rep supt insp amb pte pvt esq
    hr hrn frl dipl ing mag stud cand
    m mm mme mmes mlle mlles mgr pr vve sts
    d dª dña exmo exma ilmo lic arq
    sig sigg dott dott.ssa avv geom rag on prof.ssa sig.ra sig.na p.zza v.le
    dhr mevr mw mej drs ir jhr dhr ds mgr
    hr fru frk kand civ
    dl dna dra ing av
    κ κα κος κυρ δρ καθ
    г-н г-жа гр тов проф акад доц ст мл св им ул пр пл пер наб просп д кв корп стр обл р-н гг
    вул бул просп пл буд
    gosp
    ul al pl os św ks bp abp hab inż mgr doc prof
    ul nám tř sv ing mudr judr phdr mgr bc doc
    jl kh ny tn bpk sdr prof
    ts tp ths gs pgs bs ks q p
    डॉ प्रो श्री श्रीमती सुश्री कु पं मो
    ডা ড মো প্রফ
    திரு
    డా ડૉ ಡಾ
    """
)
"""Titles and the like, written before a name and never at the end of a sentence."""

PLACES = frozenset({"Mt", "Ft", "St", "Ste", "Pt"})
"""Abbreviations before the name of a place if written with a capital; otherwise they may end a sentence."""

BEFORE_NUMBERS = _set(
    """
    est para app rte pkwy
    no nos nr nrs num núm nums n nº art arts fig figs eq eqs p pp pg pgs pag pág págs page pages vol vols ch
    chap chaps sec
    secs tab tabs ex exs l ll v vv vs bd bde abb kap s z bl sp anm abs str hs hausnr tel apt rm ste ext
    cap caps c cc cf secc lám parr párr
    blz hfst afl
    rys zob godz ok poz rozdz tj zał
    č s kap obr odst čl str tzv hod
    kl ca jfr sid kap
    ap bl sc et nr
    бр
    рис гл с стр п пп ст табл см т тт ч чч д кв вып ок г
    стор див розд мал ч
    αρ σελ κεφ εικ
    hal bab gbr
    tr
    jan feb mar apr jun jul aug sep sept oct nov dec
    janv févr avr juil déc ene abr ago dic gen mag giu lug ott set out dez märz
    """
)
"""Abbreviations before a number."""

BEFORE_LETTERS = _set("app apps fig figs tab vol sec ex")
"""Abbreviations before a number or a single letter, such as "fig. A"."""

INSIDE = _set(
    """
    e.g i.e eg ie cf deg temp viz vs approx ca circa incl excl resp esp dept
    z.b z.bsp d.h u.a u.ä o.ä i.d.r u.u m.e s.o s.u v.a z.t zzt bzw evtl ggf inkl exkl bspw vgl sog tsd mio mrd
    ungef usf zzgl abzgl
    gem lt hrsg geb verh gest
    p.ex c.-à-d c.à.d env éd av bd ave boul
    p.ej ej aprox avda av ud uds vd vds ee c.c cía gral pl
    es ecc ca pag tel
    p.ex av prof aprox etc
    bijv d.w.z o.a m.a.w a.s i.p.v m.b.t t.o.v enz n.a.v z.o.z i.v.m
    np tj tzn m.in itd itp tzw ww dot wg zob por r w im pow woj
    т.е т.к т.н т.д т.п и.о напр т тыс млн млрд руб коп ср см обл пос пгт г
    т.зв тис грн напр див
    např tj tzv atd apod mj popř resp příp č
    t.ex d.v.s dvs bl.a m.m o.s.v osv s.k f.n t.o.m fr.o.m
    f.eks bl.a o.s.v m.v mht iflg pga vedr jf
    eks ev
    esim ts mm ym jne n so vrt
    pl ún kb stb ill u
    vb vs örn bkz mad cad sok sn
    dl dna str nr jud bd
    π.χ δηλ κ.λπ κλπ βλ πρβ αρ
    dll dsb dst dkk yth a.n
    v.v
    कि.मी कि.ग्रा रु
    """
)
"""Abbreviations within a sentence, such as "e.g."."""

ONLY_IN = {
    "dot": {"pl"},
    "es": {"it"},
    "gem": {"de"},
    "hab": {"pl"},
    "hon": {"en"},
    "ill": {"hu"},
    "ir": {"id", "nl"},
    "jas": {"en"},
    "ne": {"fi"},
    "ny": {"id"},
    "on": {"it"},
    "rag": {"it"},
    "so": {"fi"},
}
"""Abbreviations that are ordinary words in other languages, with the languages in which they count."""

# A full stop behind an initial or capitals ends the sentence if one of these words follows with a capital.
STARTERS = _set(
    """
    it the he she we they this that these those there here but and so in on at then if when while what who why
    how where
    my your our his her their its i you an a as for with after before however also yes no please now today
    do does did is are was were can could would should
    er sie es wir ihr das die der dann aber und ich il elle ils elles on nous vous je ce cette el ella ellos yo
    """
)

# Behind "a.m." and "p.m." these continue the sentence.
ZONES = _set(
    """
    eastern central pacific mountain est edt cst cdt mst mdt pst pdt et ct pt gmt utc cet cest bst ist
    monday tuesday wednesday thursday friday saturday sunday
    """
)

MONTHS = _set(
    """
    januar jänner februar märz april mai juni juli august september oktober november dezember
    jan feb mär apr jun jul aug sep sept okt nov dez
    januar februar marts april maj juni juli august september oktober november december mars januari februari
    augusti
    stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia
    ledna února března dubna května června července srpna září října listopadu prosince
    tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta
    marraskuuta
    joulukuuta siječnja veljače ožujka travnja svibnja lipnja srpnja kolovoza rujna listopada studenoga prosinca
    """
)

ORDINAL_LANGUAGES = _set("de da nb nn no fi cs sk sl hr sr bs hu pl et lv lt is tr lb fo eu bg mk")
"""Languages in which a number with a full stop is "third" rather than "three"."""

FUNCTION_WORDS = {
    "en": _set("the and of to in is it that was for you with on are be this have from or by not at as we he she they"),
    "de": _set(
        "der die das und ist nicht ein eine zu mit auf für sich den dem von im wir ich sie es auch wird in er war"
    ),
    "fr": _set("le la les et est des une un du que qui dans pour pas sur il elle ce au avec ne je nous vous sont"),
    "es": _set("el la los las es de que en un una por con para no se del su al como está más pero son"),
    "it": _set("il lo la gli le di che un una per con non si del della sono in al da come più ma nel"),
    "pt": _set("os as de que um uma para com não se do da em no na por mais mas ao são"),
    "nl": _set("de het een en is van niet dat op te met voor zijn in ik je hij zij er aan ook naar"),
    "pl": _set("na nie się jest to że do jak po za od przez są ale przy"),
    "sv": _set("och det att en ett är som på inte för med av den till har jag de"),
    "da": _set("og det at en et er som på ikke for med af den til har jeg de"),
    "no": _set("og det at en et er som på ikke for med av den til har jeg de"),
    "fi": _set("ja on ei se että oli hän mutta ovat kun niin tai myös"),
    "cs": _set("je se na že to do jako ale jsou byl není"),
    "sk": _set("je sa na že to do ako ale sú bol nie"),
    "hu": _set("az és hogy nem is egy van ez meg de csak"),
    "tr": _set("ve bir bu da de için ile çok ne var değil mi"),
    "ro": _set("și este în de la cu nu un care pe din să mai sunt"),
    "hr": _set("je na se da su za od ne to kao"),
    "id": _set("yang dan di ini itu dengan untuk tidak dari ke ada adalah"),
    "vi": _set("và là của có không được cho một các những này"),
}
"""Frequent words that identify a language in Latin letters. Of equally likely languages the first is taken."""


SentenceFinder = Callable[[str, str], Iterable[int]]
"""Function of a text and its language (ISO 639) that returns the offsets at which a sentence may begin, in order."""


def sentence_ends(text: str, language: str | None = None, find: SentenceFinder | None = None) -> Iterator[int]:
    """Yield the offset behind each sentence and its blanks, except for the end of the text.

    `language` is a BCP 47 tag. Without one, or with one in another writing system than the text's, the language is
    detected.

    >>> list(sentence_ends("See Dr. J. Smith at 3 p.m. on Main St. tomorrow. Bring No. 5."))
    [49]
    """
    detected = language_of(text, language)
    begin = 0
    for candidate in (find or ends_by_marks)(text, detected):
        end = candidate
        while end < len(text) and text[end].isspace():
            end += 1
        if end >= len(text) or not text[begin:end].strip():
            continue
        if not _continues(text, begin, end, detected):
            yield end
            begin = end


def leading_sentences(
    text: str, limit: int, *, at_least: int = 1, language: str | None = None, find: SentenceFinder | None = None
) -> str:
    """Return the shortest beginning that ends with a sentence and has at least `at_least` characters.

    If it is longer than `limit`, the best place to split within the limit is taken: see `leading_piece`.

    >>> leading_sentences("No. It rains. It pours.", 100, at_least=5)
    'No. It rains. '
    """
    if len(text) <= at_least:
        return leading_piece(text, limit, language, find)
    for end in sentence_ends(text[: limit + LOOK_AHEAD], language, find):
        if at_least <= end <= limit and text[:end].strip():
            return text[:end]
        if end > limit:
            break
    return leading_piece(text, limit, language, find)


def leading_piece(text: str, limit: int, language: str | None = None, find: SentenceFinder | None = None) -> str:
    """Return the longest beginning of at most `limit` characters that ends at a good place to split.

    That is behind a sentence; failing that behind a line, a clause, a word, or, in a text without blanks, between two
    characters as a reader sees them. Only the first `limit` + LOOK_AHEAD characters are examined. Raises ValueError for
    a limit below one.

    >>> leading_piece("It rains. It pours, and the old man snores.", 20)
    'It rains. '
    """
    if limit < 1:
        raise ValueError(f"limit: at least one character, got {limit}")
    if len(text) <= limit:
        return text
    cut = 0
    for end in sentence_ends(text[: limit + LOOK_AHEAD], language, find):
        if end - _blanks_before(text, end) > limit:
            break
        cut = min(end, limit)
    if cut >= max(1, limit // 10) and text[:cut].strip():
        return text[:cut]
    for ends in (_LINE_END, _CLAUSE_END, _BREAK, _BLANK):
        cut = _last_cut(text, limit, ends)
        # A cut in the first tenth would make a request of one or two words.
        if cut and (cut >= limit // 10 or ends is _BLANK):
            return text[:cut]
    return text[: _between_characters(text, limit)]


def split_text(text: str, limit: int) -> list[str]:
    """Split a text into pieces of at most `limit` characters. Joined, they are the text again.

    >>> split_text("It rains. It pours.", 12)
    ['It rains. ', 'It pours.']
    """
    pieces = []
    while text:
        pieces.append(leading_piece(text, limit))
        text = text[len(pieces[-1]) :]
    return pieces


LOOK_AHEAD = 80
"""Characters behind a limit that are examined, because the words behind a full stop decide whether a sentence ends."""


def language_of(text: str, language: str | None = None) -> str:
    """Return the language to split a text by: the given one if it fits the script, else one detected from the text."""
    sample = text[:_SAMPLE]
    found = count_scripts(sample)
    script = found.most_common(1)[0][0] if found else "Latin"
    if language:
        named = language.replace("_", "-").partition("-")[0].lower()
        written = scripts_of_languages([named])
        if written is None or (written == LATIN if script in LATIN else script in written):
            return named
    if "Hiragana" in found or "Katakana" in found:
        return "ja"
    return usual_language(script) or _latin_language(sample)


def _latin_language(sample: str) -> str:
    """Return the language in Latin letters whose function words occur most, English if in doubt."""
    known = _languages_by_word()
    counts = Counter(language for word in _WORD.findall(sample.lower()) for language in known.get(word, ()))
    return max(FUNCTION_WORDS, key=counts.__getitem__)


@lru_cache(1)
def _languages_by_word() -> Mapping[str, Sequence[str]]:
    known = defaultdict[str, list[str]](list)
    for language, words in FUNCTION_WORDS.items():
        for word in words:
            known[word].append(language)
    return dict(known)


def ends_by_marks(text: str, language: str) -> Iterator[int]:
    """Yield the offset behind each punctuation mark that may end a sentence, in any language."""
    return (mark.end() for mark in _MARKS.finditer(text))


def _continues(text: str, begin: int, end: int, language: str) -> bool:
    """Return whether the sentence that starts at `begin` continues behind its apparent end."""
    found = _END.search(text, max(begin, end - _LONGEST_END), end)
    if found is None:
        return False
    mark, closed = found[1], found[2]
    if end == found.end(2) and mark not in _WIDE and _is_inside(text, end):
        return True
    if mark in _WIDE:
        return bool(closed) and bool(_QUOTATION_GOES_ON.match(text, end))
    following = _FOLLOWING.match(text, end)
    first = following[2] if following else ""
    if following and first[:1].islower():
        # In a text without any capitals, such as a chat, a small letter means nothing, except behind a quotation.
        if closed.strip() or following[1].strip():
            return True
        around = text[max(0, begin - _SAMPLE, end - 2 * _SAMPLE) : end + _SAMPLE]
        return around != around.lower()
    return mark == "." and not closed.strip() and _is_abbreviated(text, begin, found.start(), first, language)


def _is_inside(text: str, end: int) -> bool:
    """Return whether a punctuation mark without a blank behind it belongs to a number, a name or an address."""
    token = text[max(0, end - _SAMPLE) : end].split()[-1]
    return not text[end].isupper() or token[-2:-1].isdigit() or not _ADDRESS.isdisjoint(token)


def _is_abbreviated(text: str, begin: int, stop: int, first: str, language: str) -> bool:
    """Return whether a full stop belongs to an abbreviation before it. `first` is the word behind it."""
    before = text[max(begin, stop - _LONGEST_ABBREVIATION) : stop]
    token = "" if not before or before[-1].isspace() else before.split()[-1]
    word = token.lstrip(_OPENING)
    if word.lower() not in INSIDE:
        word = _ELISION.sub("", word)
    if not word:
        return False
    if _is_danda_script(word[-1]) and any(mark in text[begin : begin + _SAMPLE] for mark in "।॥"):
        return True  # sentences of this text end with a danda, so that a full stop is an abbreviation's
    low, follows = word.lower(), first.lower()
    if word.isdecimal():
        alone = stop - begin < _LONGEST_ABBREVIATION and not before[: -len(token)].strip()
        return len(word) <= 3 and (alone or language in ORDINAL_LANGUAGES or follows.rstrip(".-") in MONTHS)
    if len(word) == 1 or _DOUBLE_INITIAL.fullmatch(word):
        return word != "I" and follows not in STARTERS
    if language in ORDINAL_LANGUAGES and _ROMAN.fullmatch(word):
        return True
    if low in ("a.m", "p.m", "am", "pm"):
        return follows.rstrip(".-") in ZONES
    if _DOTTED_CAPITALS.fullmatch(word):
        return follows not in STARTERS
    number = first.rstrip(".-")
    numbered = first[:1].isdigit() or bool(_ROMAN.fullmatch(number))
    if language not in ONLY_IN.get(low, (language,)):
        return False
    return (
        low in INSIDE
        or low.rpartition(".-")[2] in BEFORE_NAMES  # "Dipl.-Ing."
        or (word in PLACES and follows not in STARTERS)
        or (numbered and (low in BEFORE_NUMBERS or low.endswith("str")))
        or (low in BEFORE_LETTERS and len(number) == 1)
    )


def _blanks_before(text: str, end: int) -> int:
    return end - len(text[:end].rstrip()) if text[end - 1].isspace() else 0


def _last_cut(text: str, limit: int, ends: re.Pattern[str]) -> int:
    """Return the last end within the limit, 0 if there is none. Blanks behind it are included as far as they fit."""
    cut = 0
    # One character more, so that the blank behind an end exactly at the limit is seen.
    for match in ends.finditer(text, 0, limit + 1):
        without_blanks = match.start() + len(match.group().rstrip())
        if without_blanks <= limit:
            cut = min(match.end(), limit)
    return cut if text[:cut].strip() else 0  # blanks alone are not worth a request


def _between_characters(text: str, limit: int) -> int:
    """Return the last offset up to the limit that splits no word, number or address; failing that, no character."""
    blanks = len(text) - len(text.lstrip())
    for together in (_are_one_word, _belong_together):
        for cut in range(limit, max(blanks, limit - _LONGEST_WORD), -1):
            if not together(text, cut):
                return cut
    return limit


def is_between_words(text: str, cut: int) -> bool:
    """Return whether a word begins at a cut: behind a blank, or behind a mark that ends a clause."""
    before, after = text[cut - 1 : cut], text[cut : cut + 1]
    if not before or not after or before.isspace() or after.isspace():
        return True
    return unicodedata.category(before).startswith("P") and not _are_one_word(text, cut)


def _are_one_word(text: str, cut: int) -> bool:
    """Return whether a cut would split a number, or a word or an address in Latin letters."""
    before, after = text[cut - 1], text[cut]
    return (_is_part_of_word(before) and _is_part_of_word(after)) or _belong_together(text, cut)


def _is_part_of_word(character: str) -> bool:
    return character in _IN_ADDRESSES or (character.isalnum() and character < "\u0250") or character.isdigit()


def _belong_together(text: str, cut: int) -> bool:
    """Return whether a cut would split a character as a reader sees it, or a punctuation mark from its word.

    A subset of https://unicode.org/reports/tr29/: enough for emoji, flags, accents, Hangul, Indic scripts and Thai, and
    for marks that do not begin or end a line in Japanese.
    """
    before, after = text[cut - 1], text[cut]
    if _is_flag_half(before) and _is_flag_half(after):
        halves = next((n for n in range(cut) if not _is_flag_half(text[cut - 1 - n])), cut)
        return halves % 2 == 1
    return (
        before == _JOINER
        or before in _LEADING
        or unicodedata.combining(before) == _VIRAMA
        or after in _TRAILERS
        or unicodedata.category(after) in ("Mn", "Mc", "Me", "Po", "Pe", "Pf")
        or unicodedata.category(before) in ("Ps", "Pi")
    )


_JOINER = "\u200d"  # joins emoji into one
_VIRAMA = 9  # combining class of the marks that join Indic consonants into one
_LEADING = frozenset("เแโใไເແໂໃໄ")  # vowels that are written before their consonant
_TRAILERS = frozenset(
    [
        _JOINER,
        *map(chr, range(0x1F3FB, 0x1F400)),  # skin tones
        *map(chr, range(0xE0020, 0xE0080)),  # tags: the flag of Scotland
        *map(chr, range(0x1160, 0x1200)),  # the vowel and the end of a Hangul syllable
        *"ะาำๅๆฯະາຳໆ",  # vowels and marks written behind a Thai or Lao consonant
        *"ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮー々",
    ]
)
_IN_ADDRESSES = frozenset("/:@.,?&=#%_-+~'’")


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_danda_script(character: str) -> bool:
    return "\u0900" <= character <= "\u0d7f"


_ADDRESS = frozenset("/@\\_=")
_MARKS = re.compile(r"""(?:[.!?…؟۔।॥։።፧]["'”’»)\]]*\s+|[。！？｡։។៕]+["'”’」』）]*\s*)+""")
_SAMPLE = 400  # characters by which a language is detected
_LONGEST_ABBREVIATION = 24  # characters
_LONGEST_WORD = 2000  # characters that are searched for a place to cut
_LONGEST_END = 40  # characters: a punctuation mark, closing quotation marks and brackets, and blanks

# Latin, Arabic and Indic marks end a clause when a blank follows ("1,000" does not); Chinese and Japanese ones always.
_CLAUSE_END = re.compile(r"""[,;:–،؛]["'”’»)\]]*\s+|[—、，；：]+\s*""")
_LINE_END = re.compile(r"[\n\u2028\u2029]\s*")
_BREAK = re.compile(
    r"(?:(?<!\d)[^\S\xa0\u202f\u2007]+(?=\S)|[^\S\xa0\u202f\u2007]+(?=[^\s\d])|[^\S\xa0\u202f\u2007]+$)"
)
_BLANK = re.compile(r"\s+")
_WIDE = frozenset("。！？｡…")
_END = re.compile(r"""([.!?…؟۔]|[。！？｡])(\s?»|["'”’“»«)\]」』）〉》】]*)\s*\Z""")
_FOLLOWING = re.compile(r"([^\w\n]*)([\w.-]*)")
_WORD = re.compile(r"[^\W\d_]{2,}+(?!\.\w)")
_ELISION = re.compile(r"^(?:[A-Za-z]|\w{3,4})['’](?=\w)")
_OPENING = "\"'“”„«‹‘’‚([{（「『—–-•*¿¡/"
_DOUBLE_INITIAL = re.compile(r"[^\W\d_]\.?-[^\W\d_]")
_DOTTED_CAPITALS = re.compile(r"(?:[^\W\d_a-z]\.){1,3}[^\W\d_a-z]")
_ROMAN = re.compile(r"[IVXLC]+")
_QUOTATION_GOES_ON = re.compile(r"[\u3041-\u3096]|[他她我你您它]?们?[说問问道喊叫答]")
