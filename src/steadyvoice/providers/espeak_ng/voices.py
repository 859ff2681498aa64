"""Voices of the installed eSpeak NG, read from its data files without loading it, and the scripts they can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from steadyvoice.speech.writing_systems import scripts_of_languages


@dataclass(frozen=True, slots=True)
class EspeakFiles:
    """Installation of eSpeak NG: its shared library, and its directory `espeak-ng-data`."""

    library: Path
    data: Path

    @classmethod
    def bundled(cls) -> EspeakFiles | None:
        """Return the files of the extra `steadyvoice[local]`; None without it. Nothing is loaded."""
        try:
            loader = import_module("espeakng_loader")
        except ImportError:
            return None
        return cls(Path(loader.get_library_path()), Path(loader.get_data_path()))


@dataclass(frozen=True, slots=True)
class EspeakVoices:
    """Voice ids by name and language tag in lower case, and the variants, such as `f3`, that may follow a +."""

    ids: Mapping[str, str]
    variants: frozenset[str]

    @classmethod
    @cache
    def read(cls, data: Path) -> EspeakVoices:
        """Read a directory `espeak-ng-data`, more than a hundred small files, once a process."""
        files = [path for path in (data / "lang").rglob("*") if path.is_file()]
        ids: dict[str, str] = {}
        for _, name, voice in sorted(named for path in files for named in _names(path, data)):
            ids.setdefault(name, voice)
        return cls(ids, frozenset(path.name for path in (data / "voices" / "!v").iterdir()))

    def find(self, name: str) -> str | None:
        """Return the id of a voice such as `en-us`, `zh` or `de+f3`; None when there is no such voice or variant."""
        base, plus, variant = name.partition("+")
        voice = self.ids.get(base.lower())
        return voice + plus + variant if voice and (not plus or variant in self.variants) else None

    def for_language(self, language: str, otherwise: str) -> str:
        """Return the voice for a BCP 47 tag: `otherwise` if it speaks the language, or if no voice does.

        `de-AT` becomes `de`, the nearest one. The variant of `otherwise` is kept.
        """
        base, plus, variant = otherwise.partition("+")
        tag = language.lower().replace("_", "-")
        while tag:
            if f"{base}-".startswith(f"{tag}-"):
                return otherwise
            if tag in self.ids:
                return self.ids[tag] + plus + variant
            tag = tag.rpartition("-")[0]
        return otherwise


def _names(path: Path, data: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the names of a voice as (priority, name, voice id): its file's name, and the languages that it lists.

    A line is `language <tag> [<priority>]`, 5 where none is given; `dictionary <name>` where it is not the language's:
    https://github.com/espeak-ng/espeak-ng/blob/1.52.0/docs/voices.md
    """
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    attributes = [words for words in lines if len(words) > 1]
    languages = [words[1:] for words in attributes if words[0] == "language"]
    language = languages[0][0].partition("-")[0] if languages else path.name
    dictionary = next((words[1] for words in attributes if words[0] == "dictionary"), language)
    if not (data / f"{dictionary}_dict").is_file():
        return  # without its dictionary a voice is silent: Faroese in the wheel of 1.52
    voice = path.name.lower()
    yield 0, voice, voice
    for tag, *priority in languages:
        yield int(priority[0]) if priority else 5, tag.lower(), voice


# Measured with eSpeak NG 1.52, every voice: letters that it reads take some 60 ms each, letters that it only spells
# ("Chinese letter, Chinese letter") 500 ms and more. For some scripts, any voice lets another one say the foreign word.
_BY_ANY_VOICE = frozenset(
    (
        *("Bengali", "Devanagari", "Georgian", "Greek", "Gujarati", "Gurmukhi"),
        *("Hangul", "Kannada", "Malayalam", "Sinhala", "Tamil"),
    )
)
_ALSO_READ = {"ka": {"Cyrillic"}, "ltg": {"Cyrillic"}, "lv": {"Cyrillic"}}
_ONLY_SPELLED = {
    **{language: {"Greek"} for language in ("af", "bs", "en", "hr", "lt", "mk", "sr", "vi")},
    **{language: {"Latin"} for language in ("ba", "cv", "hyw", "kok", "ky", "my", "nog", "shn", "ti")},
    **{language: {"Cyrillic"} for language in ("az", "tk")},
    "chr": {"Cherokee"},  # silent, not even spelled
    "ja": {"Han", "Latin"},
    "ko": {"Han"},
    "ku": {"Arabic"},
}


def readable_scripts(voice: str) -> frozenset[str] | None:
    """Return the scripts that a voice, such as `en-us` or `de+f3`, can read; None if not known.

    >>> "Cyrillic" in readable_scripts("ru"), "Cyrillic" in readable_scripts("en-us+f3")
    (True, False)
    """
    language = voice.partition("+")[0].partition("-")[0]
    own = scripts_of_languages([language])
    if own is None:
        return None
    return (own | _BY_ANY_VOICE | _ALSO_READ.get(language, set())) - _ONLY_SPELLED.get(language, set())
