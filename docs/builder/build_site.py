"""Build the documentation site.

python docs/builder/build_site.py [FOLDER]    # build/docs by default; open its index.html, from a disk or a server
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from pages import PageCopier
from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(folder: Path) -> int:
    """Build the site into a folder; return 0, or Sphinx's exit status. Its warnings are errors."""
    # Of the processor time of a build, a quarter went to the garbage collector, and a sixth to a second process.
    gc.disable()
    copied = folder.with_name(f"{folder.name}-pages")
    PageCopier(ROOT, copied).copy()
    options = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(HERE), "-d", f"{copied}/.doctrees"]
    return build_main([*options, str(copied), str(folder)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs")))
