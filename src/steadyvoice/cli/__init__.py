"""The command. What it can do is in `app`; each file beside it holds one command, or one of its concerns."""


def main() -> None:
    """Run `steadyvoice` with the arguments of the process."""
    from steadyvoice.cli.standard_streams import open_closed_streams

    open_closed_streams()

    from steadyvoice.cli.app import app
    from steadyvoice.cli.errors import flushing_output

    with flushing_output():
        app(prog_name="steadyvoice")
