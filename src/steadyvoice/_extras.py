"""Extras: whether the packages of one are installed, and the command that installs them where they are missing.

Every import of a package that may be absent goes through `require`, so that all messages have one wording. Needs the
standard library only.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """Package of an extra that is not installed. The message has the command that installs it."""

    def __init__(self, extra: str, module: str, package: str) -> None:
        super().__init__(f"{package} is not installed: {install_command(extra)}", name=module)
        self.extra = extra


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "steadyvoice[{extra}]"'


def is_installed(module: str) -> bool:
    """Return whether a module can be found. Of `a.b`, the package `a` is imported to look for it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
    except ValueError:  # imported already, without a specification, such as a stand-in of a test
        return sys.modules.get(module) is not None


def require(extra: str, *modules: str, package: str | None = None) -> None:
    """Check that an extra's modules are installed. `package` is the name to show instead of the module's.

    Nothing else is imported, so that an import that fails for another reason is reported as what it is. Raises
    MissingExtraError.
    """
    for module in modules:
        if not is_installed(module):
            raise MissingExtraError(extra, module, package or module.partition(".")[0])
