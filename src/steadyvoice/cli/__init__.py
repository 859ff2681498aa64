"""The `steadyvoice` command. Its options are in `app`; each command has a module of its own."""


def main() -> None:
    """Run `steadyvoice` with the arguments of the process."""
    from steadyvoice.cli.standard_streams import open_closed_streams

    # Comes first: a file opened by an import would otherwise get the number of a closed standard stream.
    open_closed_streams()

    import sys

    from steadyvoice._extras import MissingExtraError, require

    try:
        require("gateway", "typer", "rich")
    except MissingExtraError as error:
        sys.exit(f"steadyvoice: {error}")

    from steadyvoice.cli.app import app
    from steadyvoice.cli.errors import flushing_output

    with flushing_output():
        app(prog_name="steadyvoice")
