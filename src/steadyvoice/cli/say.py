"""`steadyvoice say`: synthesize one text to a file, a pipe or a player, with the configured or a named provider."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from steadyvoice._extras import install_command
from steadyvoice.audio.framing import AudioMeter
from steadyvoice.cli.audio_output import (
    AudioOutput,
    FileSink,
    PlayerSink,
    StreamSink,
    check_target,
    find_player,
    finishing,
    player_names,
)
from steadyvoice.cli.errors import ExitStatus, UsageError
from steadyvoice.cli.standard_streams import MAX_STDIN_BYTES, print_error, read_stdin, was_closed
from steadyvoice.cli.telemetry import exporting_as_configured
from steadyvoice.providers import plugins
from steadyvoice.providers.base import Provider
from steadyvoice.providers.tone import Tone
from steadyvoice.service.config_file import arguments_from_environment, load_arguments
from steadyvoice.service.options import ResolvedOptions, ServiceArguments, SynthesisOptions
from steadyvoice.service.result import Attempt, ReportedUtterance
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.format import AudioFormat
from steadyvoice.speech.text import SECONDS_PER_CHARACTER, clean_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


def load_plan(config: Path | None, provider: str | None, environ: Mapping[str, str]) -> ServiceArguments:
    """Return the arguments of the service, narrowed to one provider if it is named.

    Raises TTSConfigurationError for an invalid configuration, UsageError for an unknown provider.
    """
    plan = load_arguments(config, environ) if config else arguments_from_environment(environ)
    if provider is None:
        return plan
    found = _named(plan, provider)
    # A provider that the configuration lacks must not be created with defaults, which would bypass the configuration.
    if found is None and (config or environ.get("STEADYVOICE_CONFIG")):
        raise UsageError(f"unknown provider {provider!r}; configured: {_names(plan)}")
    return _only(plan, found or _create_provider(provider))


def _named(plan: ServiceArguments, provider: str) -> Provider | None:
    """Return the provider with a name, or else the first one of that kind, or None."""
    by_name = [one for one in plan["providers"] if one.name == provider]
    return next(iter(by_name or _of_kind(plan, provider)), None)


def _of_kind(plan: ServiceArguments, kind: str) -> list[Provider]:
    try:
        factory = plugins.load_kind(kind)
    except TTSConfigurationError:
        return []
    return [one for one in plan["providers"] if isinstance(factory, type) and isinstance(one, factory)]


def _create_provider(kind: str) -> Provider:
    if kind not in plugins.installed_kinds():
        raise UsageError(f"unknown provider {kind!r}; available kinds: {', '.join(plugins.installed_kinds())}")
    provider: Provider = plugins.load_kind(kind)()
    return provider


def _only(plan: ServiceArguments, provider: Provider) -> ServiceArguments:
    circuits = {name: circuit for name, circuit in plan.get("circuits", {}).items() if name == provider.name}
    return ServiceArguments(**{**plan, "providers": [provider], "circuits": circuits})


def _names(plan: ServiceArguments) -> str:
    return ", ".join(one.name for one in plan["providers"])


def summary(spoken: ReportedUtterance, output: Path | None) -> str:
    """Return one line about an utterance: outcome, duration, provider and, after failures, their reasons."""
    where = f" in {output}" if output else ""
    length = f"{spoken.duration:.1f} s"
    match spoken.outcome:
        case "muted":
            return f"muted: {_silence_summary(spoken)}{where}, because {failure_reasons(spoken.attempts)}"
        case "recorded":
            return f"recorded: the message instead of the text{where}, because {failure_reasons(spoken.attempts)}"
        case "substituted":
            return f"substituted: {length} by {spoken.provider}{where}, because {failure_reasons(spoken.attempts)}"
        case "resumed":
            voices = ", then ".join(_provider_sequence(spoken))
            return f"resumed: {length} by {voices}{where}, because {failure_reasons(spoken.attempts)}"
        case outcome:
            return f"{outcome}: {length} by {spoken.provider}{where}"


def _tone_hint(plan: ServiceArguments) -> str:
    """Return how to get speech instead of tones, if no other provider is there."""
    if any(not isinstance(provider, Tone) for provider in plan["providers"]):
        return ""
    keys = "ELEVENLABS_API_KEY or another vendor's key"
    return f"; these are tones: for speech, set {keys}, or install a local voice: {install_command('local')}"


def failure_reasons(attempts: Iterable[Attempt]) -> str:
    """Return the last error of each provider."""
    last = {attempt.provider: attempt.error for attempt in attempts if attempt.error}
    return "; ".join(str(error) for error in last.values()) or "no time was left for any provider"


def _silence_summary(spoken: ReportedUtterance) -> str:
    silence = sum(span.stop - span.start for span in spoken.report.spans if span.provider is None)
    if silence == spoken.duration:
        return f"no provider could speak, so the audio is {silence:.1f} s of silence"
    return f"no provider could finish the text, so {silence:.1f} of {spoken.duration:.1f} s are silence"


def _provider_sequence(spoken: ReportedUtterance) -> list[str]:
    """Return the names of the providers in the order in which they spoke, without repetitions."""
    voices: list[str] = []
    for span in spoken.report.spans:
        name = span.provider or "silence"
        if not voices or voices[-1] != name:
            voices.append(name)
    return voices


PROGRESS_FROM_CHARACTERS = 400
"""Length of text from which a progress bar is shown: about half a minute of speech."""


class SpeechProgress:
    """Progress bar on a terminal, for texts of `PROGRESS_FROM_CHARACTERS` and more. Use it as `with`."""

    def __init__(self, stream: AsyncSpeechStream, characters: int) -> None:
        self._stream, self._characters = stream, characters
        self._meter = AudioMeter(stream.format)
        self._bar: RichProgress | None = None
        if characters >= PROGRESS_FROM_CHARACTERS and sys.stderr.isatty():
            self._bar = _progress_bar()

    def update(self, chunk: bytes) -> None:
        """Advance the bar by a chunk of audio."""
        if self._bar:
            seconds = self._meter.feed(chunk)
            part = estimate_progress(seconds, self._stream.duration, self._spoken_characters, self._characters)
            self._bar.update(self._bar.task_ids[0], completed=part, audio=f"{seconds:.0f} s of speech")

    @property
    def _spoken_characters(self) -> int:
        spans = self._stream.report.spans
        return spans[-1].end if spans else 0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._bar.add_task("speaking", total=1.0, audio="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()


def estimate_progress(seconds: float, spoken_seconds: float, spoken: int, characters: int) -> float:
    """Return the share of a text that is spoken, below 1 before the end.

    `seconds` of audio have arrived, of which the first `spoken_seconds` are known to be `spoken` of the `characters`.
    The rest is estimated from the speech rate so far, or from an average one.
    """
    if spoken >= characters:
        return 1.0
    seconds_per_character = spoken_seconds / spoken if spoken and spoken_seconds else SECONDS_PER_CHARACTER
    estimate = spoken + max(0.0, seconds - spoken_seconds) / seconds_per_character
    return min(0.99, estimate / characters)


def _progress_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[audio]}"))
    return RichProgress(*columns, console=Console(stderr=True), transient=True)


STDIN = STDOUT = "-"


@dataclass(frozen=True, slots=True)
class SayOptions:
    """Options of `steadyvoice say`."""

    text: str
    output: Path | None = None
    voice: str = "default"
    provider: str | None = None
    format: str | None = None
    config: Path | None = None
    play: bool = False


def say(options: SayOptions) -> ExitStatus:
    """Synthesize a text to a file, a pipe or a player, and print a summary.

    All options are validated before a provider is asked. Raises UsageError and TTSError.
    """
    text = _text(options.text)
    to_stdout = options.output is None and not options.play
    if options.output and not (to_stdout := str(options.output) == STDOUT):
        check_target(options.output)
    if to_stdout and was_closed(1):
        raise UsageError("standard output is closed; write the audio to a file: -o speech.mp3")
    plays = options.play or _plays_by_default(options)
    format = _format(options, plays=plays)
    plan = load_plan(options.config, options.provider, os.environ)
    with exporting_as_configured(plan) as plan:
        return asyncio.run(_synthesize(options, text, format, plan, plays=plays))


async def _synthesize(
    options: SayOptions, text: str, format: AudioFormat, plan: ServiceArguments, *, plays: bool
) -> ExitStatus:
    _cancel_on_sigterm()
    async with AsyncTTSService(**plan) as tts:
        # While a file is written, nothing has been played yet: when the first provider fails in the middle, the text is
        # spoken again from the start, in one voice.
        hold = options.output is not None and not plays
        stream = tts.open_stream(
            text, ResolvedOptions.resolve(SynthesisOptions(voice=options.voice, format=format)), hold=hold
        )
        sinks = _open_sinks(options, format, plays=plays)
        async with finishing(sinks), stream:
            with SpeechProgress(stream, len(text)) as progress:
                async for chunk in stream:
                    progress.update(chunk)
                    for sink in sinks:
                        await sink.write(chunk)
    print_error(summary(stream, options.output) + ("" if options.provider else _tone_hint(plan)))
    return ExitStatus.MUTED if stream.outcome in ("muted", "recorded") else ExitStatus.SPOKEN


def _text(argument: str) -> str:
    """Return the text from the command line or standard input. Raises UsageError if it is empty."""
    text = clean_text(_read_stdin() if argument == STDIN else _validate_argument(argument))
    if not text:
        raise UsageError("the text is empty; pass a text, or - to read it from standard input")
    return text


def _read_stdin() -> str:
    if sys.stdin.isatty():
        print_error("Type the text, and end it with Ctrl-D.")
    if was_closed(0):
        raise UsageError("standard input is closed; pass the text on the command line")
    data = read_stdin()
    if len(data) > MAX_STDIN_BYTES:
        raise UsageError(f"standard input has more than {MAX_STDIN_BYTES} bytes of text; split it into several files")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UsageError(
            f"standard input is not UTF-8 ({byte}); convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None


def _validate_argument(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UsageError("the text on the command line is not UTF-8; pass it on standard input instead") from None
    return argument


def _plays_by_default(options: SayOptions) -> bool:
    return options.output is None and sys.stdout.isatty()


def _format(options: SayOptions, *, plays: bool) -> AudioFormat:
    """Return the format from the options, from the file's extension, or the default.

    Raises TTSUnsupportedFormatError.
    """
    if options.format:
        return AudioFormat.parse(options.format)
    if options.output is None or str(options.output) == STDOUT:
        return AudioFormat.parse("wav" if plays else "mp3")
    return AudioFormat.of_file(options.output)


def _open_sinks(options: SayOptions, format: AudioFormat, *, plays: bool) -> list[AudioOutput]:
    """Open all sinks. The file comes first, so that it is complete before the player ends."""
    players: list[AudioOutput] = [_player_sink(format, requested=options.play)] if plays else []
    if options.output is None:
        return players or [StreamSink(sys.stdout.buffer)]
    return [_file_sink(options.output, format), *players]


def _file_sink(path: Path, format: AudioFormat) -> AudioOutput:
    if str(path) == STDOUT:
        return StreamSink(sys.stdout.buffer)
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A device or pipe is written directly, because a rename would replace it by a file.
        return StreamSink(path.open("wb"))
    return FileSink(path, format)


def _player_sink(format: AudioFormat, *, requested: bool) -> PlayerSink:
    player = find_player()
    if player is None:
        where = "" if requested else "standard output is a terminal, and "
        raise UsageError(
            f"{where}no audio player was found ({player_names()}); install one, or write a file: -o speech.mp3"
        )
    return PlayerSink(player, format)


def _cancel_on_sigterm() -> None:
    """Cancel this task on SIGTERM, so that files and processes are cleaned up as after Ctrl-C."""
    task = asyncio.current_task()
    if task:
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
