"""The commands and their options. What they do is imported when it is asked for, so that help comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadyvoice._version import __version__

app = typer.Typer(
    name="steadyvoice",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Debug = Annotated[bool, typer.Option("--debug", help="Log everything, and show tracebacks.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"steadyvoice {__version__}")
        raise typer.Exit


@app.callback()
def steadyvoice(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one.")
    ] = False,
) -> None:
    """A voice that keeps speaking when its provider does not.

    [bold]Try it[/bold], without any key:

      steadyvoice say "Hello" -o hello.wav
      steadyvoice demo

    [bold]Then[/bold] set ELEVENLABS_API_KEY or OPENAI_API_KEY, or write a
    configuration file, and say the same again.
    """


@app.command()
def say(
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="What to say; [bold]-[/bold] reads it from standard input, as UTF-8."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the audio to this file; - is standard output.", show_default=False),
    ] = None,
    voice: Annotated[str, typer.Option(help="A name from the providers' `voices`.")] = "default",
    provider: Annotated[
        str | None, typer.Option(help="Use this one only, by its name or kind.", show_default=False)
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Such as mp3, wav or opus_48000_64. Wins over the file's extension.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A configuration file, instead of the environment.", show_default=False)
    ] = None,
    play: Annotated[bool, typer.Option("--play", help="Let it be heard, through a player found here.")] = False,
    debug: Debug = False,
) -> None:
    """Speak a text: into a file, down a pipe, or aloud.

    Without -o the audio goes to standard output, or is played when that
    is a terminal. Without --format it is what the file's extension says,
    and mp3 in a pipe. Without --config the providers are those whose keys
    are in the environment (ELEVENLABS_API_KEY, OPENAI_API_KEY), and a
    local voice; or those of the file that STEADYVOICE_CONFIG names.

      steadyvoice say "Good morning." -o morning.mp3
      steadyvoice say - -o chapter.wav < chapter.txt
      steadyvoice say "Anybody there?" --provider espeak --play
      steadyvoice say "Down a pipe." --format wav | ffplay -nodisp -autoexit -

    [bold]Exit status[/bold]: 0 spoken, by whomever; 2 asked wrongly; 3 muted, for
    nobody could speak, and the audio is silence; 4 failed.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli import say as command

        order = command.SayOptions(text, output, voice, provider, format, config, play)
        raise typer.Exit(command.say(order))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the files it ends in.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Of everything that is left to chance.")] = 1,
    debug: Debug = False,
) -> None:
    """Live through an outage: half a minute, without any key or network.

    A simulated vendor fails, hangs and recovers, while a caller says
    fifteen sentences through steadyvoice, and the same fifteen without it.
    You see who speaks and every change of the circuit as it happens; what
    is left is a sound file with captions, and a picture of it all.

      steadyvoice demo
      steadyvoice demo --out /tmp/demo

    [bold]Exit status[/bold]: 0 if the story went as told; 2 asked wrongly; 4 if it did not.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.demo.command import demo as tell

        raise typer.Exit(tell(out, seed=seed))


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(help="A configuration file, instead of the environment.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen: 127.0.0.1 unless said.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="8040 unless said; 0 takes any.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """The gateway: point a client's base_url here, and it keeps speaking.

    It answers as ElevenLabs and as OpenAI do, and speaks through whoever
    can. Without --config the providers are those whose keys are in the
    environment, and a local voice; or those of the file that
    STEADYVOICE_CONFIG names. It listens on this machine only, unless the
    file says otherwise and names the keys of those who may call. Ctrl-C
    ends it, when what is being spoken is over.

      steadyvoice serve
      steadyvoice serve --config steadyvoice.toml --port 8040

    [bold]Point a client at it[/bold]:

      ElevenLabs(base_url="http://127.0.0.1:8040", api_key="any")
      OpenAI(base_url="http://127.0.0.1:8040/v1", api_key="any")
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.serve import serve as run

        raise typer.Exit(run(config, host, port))


@app.command()
def sim(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any that is free.")] = 8041,
    script: Annotated[
        Path | None, typer.Option(help="A TOML file that says what goes wrong, and when.", show_default=False)
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="A ready-made one, such as outage, brownout or hang.", show_default=False)
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Serve https and wss; it tells which CA file to trust.")] = False,
    debug: Debug = False,
) -> None:
    """A vendor that fails on command, to point your own client at. Ctrl-C ends it.

    It speaks ElevenLabs' and OpenAI's language, over HTTP and websockets,
    takes any API key, answers with real audio, and listens on this machine
    only. Without a script or profile it is well until you order otherwise:
    for one request with the header x-sim-fault, or for all while it runs.

      steadyvoice sim --profile outage
      steadyvoice sim --script monday.toml --tls
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
def status(
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8040",
    json: Annotated[bool, typer.Option("--json", help="Once, as JSON, for scripts.")] = False,
    debug: Debug = False,
) -> None:
    """Who is down, since when and why, and when it is tried again.

    In a terminal it is live, until Ctrl-C; into a pipe it is told once.
    With an admin token the gateway lets only those look who have it in
    STEADYVOICE_ADMIN_TOKEN.

      steadyvoice status
      steadyvoice status --json | jq .providers.elevenlabs.circuit_state

    [bold]Exit status[/bold]: 0 all circuits closed; 1 something is open or on hold; 2 asked wrongly; 4 nobody answers.
    """
    from steadyvoice.cli.errors import reporting_errors

    with reporting_errors(debug):
        from steadyvoice.cli.status import status as show

        raise typer.Exit(show(url, as_json=json))
