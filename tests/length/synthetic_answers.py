"""Synthetic answers, drawn from a model of voices: complete ones, and ones that end properly in their middle.

Rates are characters a second of ordinary synthetic voices, blanks and pauses included. They are approximate, from
syllables a second (Coupé et al., Science Advances 2019) and vendors' own figures, and independent of what
`speech/duration_estimate.py` takes for usual. Voices differ by `VOICES`, and answers of one voice by `ANSWERS`
(standard deviations of a normal distribution, of the logarithm).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from steadyvoice.service.pipeline.speech_rate import SpeechRates, SpeechStyle

VOICES, ANSWERS = 0.12, 0.09
KNOWN = 12
"""Number of complete answers after which a voice is well known."""

DRAWS = 4
"""Number of complete answers, and of cut ones of each kind, that are judged of each voice."""

CUTS = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.6))
"""Shares of the whole at which answers end early."""

STYLES = {"usual": 1.0, "slow": 1 / 0.75, "fast": 1 / 1.2, "speed 0.7": 1 / 0.7, "speed 1.2": 1 / 1.2, "speed 4": 1 / 4}
"""Styles of speech, and how much longer they make an answer. A named speed is stated in the request."""


@dataclass(frozen=True)
class Language:
    """Sentences of a language, and how fast they are spoken, or how long each takes."""

    name: str
    rate: float  # characters a second
    sentences: tuple[str, ...]
    digit: float = 0.0  # seconds a digit takes, if it is not said at the rate of letters

    def text(self, rng: Random) -> str:
        return " ".join(rng.sample(self.sentences, rng.randint(2, len(self.sentences))))

    def seconds(self, text: str) -> float:
        digits = sum(map(str.isdecimal, text)) if self.digit else 0
        return (len(text) - digits) / self.rate + self.digit * digits


WRITTEN = (
    Language(
        "English",
        14.5,
        (
            "The committee will meet again on Thursday afternoon.",
            "Nobody could say where the ship had gone.",
            "We walked along the river until it was dark.",
            "She had never thought about it in that way before.",
            "Please leave your coats at the door, and come in.",
            "It was a long winter, but the spring was early.",
        ),
    ),
    Language(
        "German",
        14.5,
        (
            "Der Ausschuss trifft sich am Donnerstagnachmittag wieder.",
            "Niemand wusste, wohin das Schiff gefahren war.",
            "Wir gingen am Fluss entlang, bis es dunkel wurde.",
            "Die Geschwindigkeitsbegrenzung gilt nur nachts.",
        ),
    ),
    Language(
        "French",
        15.5,
        (
            "Le comité se réunira de nouveau jeudi après-midi.",
            "Personne ne savait où le bateau était parti.",
            "Nous avons marché le long du fleuve jusqu'à la nuit.",
            "Elle n'y avait jamais pensé de cette façon.",
        ),
    ),
    Language(
        "Spanish",
        16.0,
        (
            "El comité se reunirá de nuevo el jueves por la tarde.",
            "Nadie sabía adónde había ido el barco.",
            "Caminamos junto al río hasta que se hizo de noche.",
            "Nunca lo había pensado de esa manera.",
        ),
    ),
    Language(
        "Finnish",
        15.0,
        (
            "Toimikunta kokoontuu jälleen torstaina iltapäivällä.",
            "Kukaan ei tiennyt, minne laiva oli mennyt.",
            "Kävelimme joen vartta, kunnes tuli pimeä.",
            "Hän ei ollut koskaan ajatellut asiaa sillä tavalla.",
        ),
    ),
    Language(
        "Vietnamese",
        14.0,
        (
            "Ủy ban sẽ họp lại vào chiều thứ năm tuần này.",
            "Không ai biết con tàu đã đi đâu.",
            "Chúng tôi đi dọc bờ sông cho đến khi trời tối.",
            "Cô ấy chưa bao giờ nghĩ về điều đó như vậy.",
        ),
    ),
    Language(
        "Russian",
        13.5,
        (
            "Комитет снова соберётся в четверг после обеда.",
            "Никто не знал, куда ушёл корабль.",
            "Мы шли вдоль реки, пока не стемнело.",
            "Она никогда раньше не думала об этом так.",
        ),
    ),
    Language(
        "Greek",
        14.0,
        (
            "Η επιτροπή θα συνεδριάσει ξανά την Πέμπτη το απόγευμα.",
            "Κανείς δεν ήξερε πού είχε πάει το πλοίο.",
            "Περπατήσαμε δίπλα στο ποτάμι μέχρι που νύχτωσε.",
            "Δεν το είχε σκεφτεί ποτέ με αυτόν τον τρόπο.",
        ),
    ),
    Language(
        "Arabic",
        11.5,
        (
            "ستجتمع اللجنة مرة أخرى بعد ظهر يوم الخميس.",
            "لم يكن أحد يعرف إلى أين ذهبت السفينة.",
            "مشينا على طول النهر حتى حل الظلام.",
            "لم تفكر في الأمر بهذه الطريقة من قبل.",
        ),
    ),
    Language(
        "Hebrew",
        11.0,
        (
            "הוועדה תיפגש שוב ביום חמישי אחר הצהריים.",
            "איש לא ידע לאן הלכה הספינה.",
            "הלכנו לאורך הנהר עד שהחשיך.",
            "היא מעולם לא חשבה על זה בצורה כזאת.",
        ),
    ),
    Language(
        "Hindi",
        12.5,
        (
            "समिति की बैठक गुरुवार दोपहर को फिर से होगी।",
            "कोई नहीं जानता था कि जहाज़ कहाँ गया।",
            "हम अंधेरा होने तक नदी के किनारे चलते रहे।",
            "उसने इस तरह पहले कभी नहीं सोचा था।",
        ),
    ),
    Language(
        "Tamil",
        13.0,
        (
            "குழு வியாழக்கிழமை மதியம் மீண்டும் கூடும்.",
            "கப்பல் எங்கே சென்றது என்று யாருக்கும் தெரியவில்லை.",
            "இருட்டும் வரை ஆற்றின் ஓரமாக நடந்தோம்.",
            "அவள் இதற்கு முன் அப்படி நினைத்ததில்லை.",
        ),
    ),
    Language(
        "Thai",
        13.0,
        (
            "คณะกรรมการจะประชุมกันอีกครั้งในบ่ายวันพฤหัสบดี",
            "ไม่มีใครรู้ว่าเรือลำนั้นไปที่ไหน",
            "เราเดินเลียบแม่น้ำไปจนกระทั่งมืด",
            "เธอไม่เคยคิดแบบนั้นมาก่อนเลย",
        ),
    ),
    Language(
        "Chinese",
        4.5,
        (
            "委员会将在星期四下午再次开会。",
            "没有人知道那艘船去了哪里。",
            "我们沿着河边一直走到天黑。",
            "她以前从来没有这样想过这件事。",
            "请把大衣放在门口，然后进来。",
        ),
    ),
    Language(
        "Japanese",
        6.5,
        (
            "委員会は木曜日の午後にもう一度開かれます。",
            "船がどこへ行ったのか誰も知りませんでした。",
            "私たちは暗くなるまで川に沿って歩きました。",
            "彼女はそんなふうに考えたことがありませんでした。",
        ),
    ),
    Language(
        "Korean",
        6.0,
        (
            "위원회는 목요일 오후에 다시 모일 예정입니다.",
            "배가 어디로 갔는지 아무도 몰랐습니다.",
            "우리는 어두워질 때까지 강을 따라 걸었습니다.",
            "그녀는 전에 그렇게 생각해 본 적이 없었습니다.",
        ),
    ),
)

UNSURE = (
    Language("Telephone numbers", 14.5, (
        "Call 555 010 9922, or 555 010 4471.", "The number is +49 30 901820, extension 4471.",
        "Your code is 8 4 4 9 0 2 7 1.", "Dial 0800 123 4567 for the office.",
    ), digit=0.38),
    Language("Dates and amounts", 14.5, (
        "On 12/05/2024 you paid $1,249.99 at 10:45.", "From 1984 to 2026 it grew by 37%, to 1,250,000.",
        "The total is 3,482.50 for 12 items of 290.21 each.", "It opens at 9:30 and closes at 18:45.",
    ), digit=0.22),
    Language("Markup and emoji", 14.5, (
        "Nobody could say where the ship had gone. 🚢🚢🚢", "It was a long winter, but the spring was early... 🌷🌷",
        "We walked along the river until it was dark — — — 👍",
        "See you soon! 👋🏽 👩‍👩‍👧‍👧 And take care of yourselves.",
    )),
)  # fmt: skip


@dataclass
class Rates:
    """Counted errors of so many draws."""

    healthy: int = 0
    refused: int = 0
    cut: list[int] = field(default_factory=lambda: [0] * len(CUTS))
    missed: list[int] = field(default_factory=lambda: [0] * len(CUTS))

    @property
    def false_refusals(self) -> float:
        return self.refused / max(1, self.healthy)

    def misses(self, cut: int) -> float:
        return self.missed[cut] / max(1, self.cut[cut])


def error_rates(languages: Iterable[Language], style: str, *, voices: int, known: int) -> Rates:
    """Draw voices of each language and their answers, after so many known complete ones, and count the errors."""
    found = Rates()
    for language in languages:
        # Seeded by what is drawn, so that adding a language changes no other row of the table.
        rng = Random(f"{language.name}, {style}, {known}")
        for _ in range(voices):
            _draw(found, language, style, rng, known)
    return found


def _draw(found: Rates, language: Language, style: str, rng: Random, known: int) -> None:
    speed = float(style.removeprefix("speed ")) if style.startswith("speed") else 1.0
    # Slow speech makes no answer shorter, so only speeds above one relax the check.
    asked = SpeechStyle(max(speed, 1.0), speed, "vendor", "voice", None, style)
    rates = SpeechRates()
    whole = _answers(language, rng, STYLES[style] * rng.lognormvariate(0, VOICES))
    for _ in range(known):
        rates.learn(asked, *next(whole))
    for _ in range(DRAWS):
        for cut, (least, most) in enumerate(CUTS):
            text, seconds = next(whole)
            found.healthy += 1
            found.refused += not rates.is_whole(asked, text, seconds)
            found.cut[cut] += 1
            found.missed[cut] += rates.is_whole(asked, text, seconds * rng.uniform(least, most))


def _answers(language: Language, rng: Random, slowness: float) -> Iterator[tuple[str, float]]:
    while True:
        text = language.text(rng)
        yield text, language.seconds(text) * slowness * rng.lognormvariate(0, ANSWERS)
