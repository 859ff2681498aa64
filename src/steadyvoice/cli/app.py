"""Commands and their options. Their code is imported only when a command runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadyvoice._version import __version__

app = typer.Typer(
    name="steadyvoice",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Debug = Annotated[bool, typer.Option("--debug", help="Log everything to standard error, and show tracebacks.")]


def _version(requested: bool) -> None:
    if requested:
        print(f"steadyvoice {__version__}")
        raise typer.Exit


@app.callback()
def steadyvoice(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Text to speech with failover: circuit breaker, timeouts, retries and a gateway.

    [bold]Without an API key[/bold]:

      steadyvoice say "Hello" -o hello.wav
      steadyvoice demo

    [bold]With providers[/bold]: set ELEVENLABS_API_KEY or OPENAI_API_KEY and run the
    same command again, or write a configuration file:

      steadyvoice init
    """


@app.command()
def say(
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="Text to speak; [bold]-[/bold] reads it from standard input, as UTF-8."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the audio to this file; - is standard output.", show_default=False),
    ] = None,
    voice: Annotated[str, typer.Option(help="Name of a voice from the providers' `voices`.")] = "default",
    provider: Annotated[
        str | None, typer.Option(help="Use only this provider, by its name or kind.", show_default=False)
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Audio format, such as mp3, wav or opus_48000_64; overrides the file's extension.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file, instead of the environment.", show_default=False)
    ] = None,
    play: Annotated[bool, typer.Option("--play", help="Play the audio through an installed player.")] = False,
    debug: Debug = False,
) -> None:
    """Synthesize a text to a file, a pipe or a player.

    Without -o the audio goes to standard output, or is played if that is
    a terminal. Without --format the format is that of the file's extension,
    and mp3 in a pipe. Without --config the providers are those whose keys
    are in the environment (ELEVENLABS_API_KEY, OPENAI_API_KEY and others
    that `steadyvoice init` finds), and a local voice; or those of the file
    that STEADYVOICE_CONFIG names.

      steadyvoice say "Good morning." -o morning.mp3
      steadyvoice say - -o chapter.wav < chapter.txt
      steadyvoice say "Good evening." --provider espeak --play
      steadyvoice say "To a pipe." --format wav | ffplay -nodisp -autoexit -

    [bold]Exit status[/bold]: 0 spoken, by any provider; 2 usage error; 3 muted or
    recorded: no provider was available, and the audio is silence or the
    recorded message; 4 failed.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli import say as command

        order = command.SayOptions(text, output, voice, provider, format, config, play)
        raise typer.Exit(command.say(order))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for the audio, captions and timeline.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
    debug: Debug = False,
) -> None:
    """Run a simulated outage: half a minute, without an API key or network.

    A simulated vendor fails, hangs and recovers, while fifteen sentences
    are synthesized through steadyvoice, and the same fifteen without it.
    Providers and circuit changes are printed as they happen. The result is
    an audio file with captions, and a timeline as SVG.

      steadyvoice demo
      steadyvoice demo --out /tmp/demo

    [bold]Exit status[/bold]: 0 if the outage went as expected; 2 usage error; 4 if not.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.demo.command import demo as tell

        raise typer.Exit(tell(out, seed=seed))


@app.command()
def init(
    output: Annotated[Path, typer.Option("-o", "--output", help="Write this file; - is standard output.")] = Path(
        "steadyvoice.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    debug: Debug = False,
) -> None:
    """Write a commented configuration file for the keys and local voices found.

    Keys are looked up in the environment (ELEVENLABS_API_KEY,
    OPENAI_API_KEY, CARTESIA_API_KEY, DEEPGRAM_API_KEY, AZURE_SPEECH_KEY
    with AZURE_SPEECH_REGION, GOOGLE_API_KEY, the credentials of AWS with
    AWS_REGION) and never written: the file refers to the variables. Nothing
    is asked, and nothing is sent.

      steadyvoice init
      steadyvoice init --output /etc/steadyvoice.toml --force

    [bold]Exit status[/bold]: 0 written; 2 usage error, such as a file that exists; 4 failed.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.init import init as write

        raise typer.Exit(write(output, force=force))


@app.command()
def check(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file, instead of the environment.", show_default=False)
    ] = None,
    voice: Annotated[str, typer.Option(help="Voice of which failures are previewed.")] = "default",
    format: Annotated[str, typer.Option(help="Audio format of which failures are previewed.")] = "mp3_44100_128",
    timeout: Annotated[float, typer.Option(min=0.1, max=120, help="Seconds for each step of a check.")] = 5.0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Check configuration, keys, reachability, voices, store and port; say what follows each failure.

    All errors of the file are shown at once. Vendors are asked only what
    is free of charge: nothing is billed. Then it says for each provider
    that fails which one speaks next, with which voice, after how many
    seconds at most, and when callers hear silence.

      steadyvoice check --config steadyvoice.toml
      steadyvoice check --json | jq .failures

    [bold]Exit status[/bold]: 0 all is well; 1 a check failed; 2 usage error or invalid
    configuration.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.check.command import CheckOptions
        from steadyvoice.cli.check.command import check as run

        raise typer.Exit(run(CheckOptions(config, voice, format, timeout, json)))


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file, instead of the environment.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; default 8040, 0 for any free port.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=128, help="Processes that serve the port; default 1.", show_default=False),
    ] = None,
    link: Annotated[str | None, typer.Option(hidden=True)] = None,
    debug: Debug = False,
) -> None:
    """Run the gateway: ElevenLabs- and OpenAI-compatible HTTP endpoints with failover.

    Without --config the providers are those whose keys are in the
    environment, and a local voice; or those of the file that
    STEADYVOICE_CONFIG names. The gateway listens on this machine only,
    unless the file sets another host and API keys for its clients. Ctrl-C
    stops it after running requests have ended. With several workers, one
    for each core, a supervisor restarts those that end.

      steadyvoice serve
      steadyvoice serve --config steadyvoice.toml --port 8040 --workers 4

    [bold]Point a client at it[/bold]:

      ElevenLabs(base_url="http://127.0.0.1:8040", api_key="any")
      OpenAI(base_url="http://127.0.0.1:8040/v1", api_key="any")
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.serve import ServeOptions
        from steadyvoice.cli.serve import serve as run

        raise typer.Exit(run(ServeOptions(config, host, port, workers, link)))


@app.command()
def sim(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free port.")] = 8041,
    script: Annotated[Path | None, typer.Option(help="TOML file with settings and faults.", show_default=False)] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Profile that comes with steadyvoice, such as outage, brownout or hang.", show_default=False),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Serve https and wss; prints the CA file to trust.")] = False,
    debug: Debug = False,
) -> None:
    """Run a simulator of ElevenLabs and OpenAI that fails on command.

    It serves both vendors' endpoints over HTTP and websockets, accepts any
    API key, answers with real audio, and listens on this machine only.
    Faults come from a script or a profile, from /sim/faults at run time, or
    from the header x-sim-fault for one request. Ctrl-C stops it.

      steadyvoice sim --profile outage
      steadyvoice sim --script script.toml --tls
      curl -X POST localhost:8041/sim/faults -d '{"fault": "hang"}'
      curl localhost:8041/sim/ledger

    [bold]Point a client at it[/bold]:

      ElevenLabs(base_url="http://127.0.0.1:8041", api_key="any")
      OpenAI(base_url="http://127.0.0.1:8041/v1", api_key="any")
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.sim import sim as serve

        raise typer.Exit(serve(port, script, profile, tls=tls))


@app.command()
def replay(
    journal: Annotated[list[Path], typer.Argument(metavar="JOURNAL...", help="Files of a journal, or its folder.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration file whose circuits, timeouts and retries are tried.", show_default=False),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change to try, such as circuit.cooldown_period=5.", show_default=False
        ),
    ] = None,
    slow: Annotated[float, typer.Option(min=0, help="Seconds until the first audio that count as a wait.")] = 2.0,
    last: Annotated[
        int | None,
        typer.Option(min=1, help="Replay only the newest utterances of each run.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    circuit: Annotated[str | None, typer.Option(hidden=True)] = None,
    seconds: Annotated[float | None, typer.Option(hidden=True)] = None,
    debug: Debug = False,
) -> None:
    """Replay a journal: what callers would have met with under other settings.

    A gateway whose configuration has a table named journal writes one. Its
    utterances arrive again on a virtual clock, and meet the real circuits,
    retries and failover; what the vendors do is what they did. Each --set
    is one alternative, shown beside the others; several changes of one are
    separated by spaces.

      steadyvoice replay ~/.local/state/steadyvoice/journal
      steadyvoice replay journal/ --config new.toml
      steadyvoice replay journal/ --set circuit.cooldown_period=5

    [bold]Exit status[/bold]: 0 replayed; 2 usage error, such as a folder without a
    journal.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli import replay as command

        options = command.ReplayOptions(journal, config, changes or (), circuit, slow, last, seconds, json)
        raise typer.Exit(command.replay(options))


@app.command()
def status(
    url: Annotated[str, typer.Option(help="URL of the gateway.")] = "http://127.0.0.1:8040",
    json: Annotated[bool, typer.Option("--json", help="Print the state once, as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show the state of a gateway's providers: circuits, failure rates, reasons, retry times.

    In a terminal the view is live until Ctrl-C; in a pipe it is printed
    once. A gateway with an admin token requires it in
    STEADYVOICE_ADMIN_TOKEN.

      steadyvoice status
      steadyvoice status --json | jq .providers.elevenlabs.circuit_state

    [bold]Exit status[/bold]: 0 all circuits closed; 1 a circuit open or a credential on
    hold; 2 usage error; 4 no gateway.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.status import status as show

        raise typer.Exit(show(url, as_json=json))
