"""`python -m steadyvoice`: the same as `steadyvoice`."""

from steadyvoice.cli import main

if __name__ == "__main__":
    main()
