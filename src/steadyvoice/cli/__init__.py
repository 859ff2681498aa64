"""The command. What it can do is in `app`; each file beside it holds one command, or one of its concerns."""


def main() -> None:
    """Run `steadyvoice` with the arguments of the process."""
    from steadyvoice.cli.app import app

    app(prog_name="steadyvoice")
