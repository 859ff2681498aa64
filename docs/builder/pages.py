"""Pages of the site, copied from the repository's Markdown: navigation, and links that work without the repository.

The navigation comes from docs/README.md: its headings are the sections, and the first links in the rows of its tables
are the pages. A link to a file that is no page, such as an example, leads to a page that shows the file.

Decision records and shown files are listed by an index page, and not by the menu: Sphinx renders the menu anew for each
page, and took most of the time for these.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path

MOVED = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages outside of docs/, by their names in the site."""

LANGUAGES = {".json": "json", ".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
"""Languages of the files that a page may link to, by ending."""

NOT_COPIED = (".md", ".py", ".pyc", ".css", ".js")

OUTSIDE_MENU = "---\norphan: true\n---\n\n"
"""Beginning of a page that is not in the menu."""

_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
_SECTION = re.compile(r"^## (?P<title>.+)\n(?P<body>(?:(?!## ).*\n)*)", re.MULTILINE)
_ROW = re.compile(r"^\|(?: *\d+ *\|)? *\[(?P<title>[^\]]+)\]\((?P<path>[^)\s#:]+\.md)\)", re.MULTILINE)


class PageCopier:
    """Copy of the pages for Sphinx.

    - `root`: the repository.
    - `target`: the folder of the copy. It is removed first.
    """

    def __init__(self, root: Path, target: Path) -> None:
        self._root = root.resolve()
        self._target = target
        self._shown: set[Path] = set()

    def copy(self) -> None:
        """Copy all pages, pictures and recordings, and write a page for each other file that they link to."""
        shutil.rmtree(self._target, ignore_errors=True)
        for page in self._pages():
            text = page.read_text("utf-8")
            listed = OUTSIDE_MENU if page.parent.name == "decisions" and page.name != "README.md" else ""
            self._write(self._name(page), listed + self._linked(page, text) + "".join(self._navigation(page, text)))
        for path in (self._root / "docs").rglob("*"):
            if path.is_file() and not path.name.endswith(NOT_COPIED):
                copied = self._target / self._name(path)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)
        self._show_files()

    def _pages(self) -> list[Path]:
        moved = [self._root / name for name in MOVED]
        return [*(page for page in moved if page.exists()), *sorted((self._root / "docs").rglob("*.md"))]

    def _name(self, path: Path) -> str:
        """Return the name in the site of a file of the repository."""
        name = path.relative_to(self._root).as_posix()
        if name in MOVED:
            return MOVED[name]
        if name.startswith("docs/"):
            return re.sub(r"README\.md$", "index.md", name.removeprefix("docs/"))
        return f"files/{name}.md"

    def _linked(self, page: Path, text: str) -> str:
        """Return the text of a page with its links changed to the names in the site."""
        parts = _FENCE.split(text)
        parts[::2] = [_LINK.sub(lambda link: self._link(page, link), part) for part in parts[::2]]
        return "".join(parts)

    def _link(self, page: Path, link: re.Match[str]) -> str:
        target = (page.parent / link["path"]).resolve()
        if self._name(target).startswith("files/"):
            self._shown.update([target, *_files_in(target)])
        return self._address(page, target) + (link["anchor"] or "")

    def _address(self, page: Path, target: Path) -> str:
        """Return the address in the site of a file, from a page."""
        return relpath(self._name(target.resolve()), Path(self._name(page)).parent)

    def _navigation(self, page: Path, text: str) -> Iterator[str]:
        """Yield the navigation of an index, as directives of Sphinx that show nothing on the page itself."""
        if page == self._root / "docs" / "README.md":
            for section in _SECTION.finditer(text):
                yield _navigation(section["title"], self._rows(page, section["body"]))
            yield _navigation("Files", ["files/index.md"])

    def _rows(self, page: Path, text: str) -> list[str]:
        """Return the entries of the navigation for the rows of a page's tables."""
        return [f"{row['title']} <{self._address(page, page.parent / row['path'])}>" for row in _ROW.finditer(text)]

    def _show_files(self) -> None:
        names = {path.relative_to(self._root).as_posix(): path for path in sorted(self._shown)}
        for name, path in names.items():
            self._write(f"files/{name}.md", f"{OUTSIDE_MENU}# `{name}`\n\n{self._content(path)}")
        listed = "\n".join(f"- [`{name}`]({name}.md)" for name in names)
        self._write("files/index.md", f"# Files\n\nFiles of the repository that these pages refer to.\n\n{listed}\n")

    def _content(self, path: Path) -> str:
        if path.is_dir():
            return "\n".join(
                f"- [`{each.relative_to(path)}`]({relpath(each, path.parent)}.md)" for each in _files_in(path)
            )
        return f"``````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text('utf-8').rstrip()}\n``````\n"

    def _write(self, name: str, text: str) -> None:
        path = self._target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _files_in(path: Path) -> list[Path]:
    return [each for each in sorted(path.rglob("*")) if each.is_file() and "__pycache__" not in each.parts]


def _navigation(title: str, entries: list[str]) -> str:
    caption = [f":caption: {title}"] if title else []
    return "\n".join(["", "```{toctree}", ":hidden:", *caption, "", *entries, "```", ""])
