"""Software bill of materials (CycloneDX 1.6) and licence check of the installed packages and the libraries inside them.

    python deploy/sbom.py [-o sbom.cdx.json]     # what steadyvoice needs, with the extras that are installed
    python deploy/sbom.py --check                # exit status 1 for a licence that is not on the list

Packages state their licences in their metadata. Shared libraries in their wheels are looked up in a table by their
names; FFmpeg's licence and configuration are read from its own file. Their versions are those of the shared object.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "steadyvoice"
PERMISSIVE = frozenset(
    [
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "CC0-1.0", "ISC", "LicenseRef-BSD",
        "MIT", "MIT-0", "PSF-2.0", "Zlib",
    ]
)  # fmt: skip
ALLOWED = PERMISSIVE | {"MPL-2.0"}
"""Licences of packages. MPL-2.0 covers changes to its own files only."""

UNSTATED = {"espeakng-loader": "GPL-3.0-or-later"}
"""Licences of packages whose metadata names none: that of the library that they carry."""

NAMED_IN_NOTICE = frozenset({"av", "espeakng-loader"})
"""Packages that may be, or carry, libraries under the GPL or LGPL, because NOTICE names them."""

ALIASES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "LicenseRef-BSD",
    "bsd license": "LicenseRef-BSD",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""SPDX identifiers of what older metadata says in words, in lower case."""

LIBRARIES = {
    "asound": "LGPL-2.1-or-later",
    "avcodec|avdevice|avfilter|avformat|avutil|swresample|swscale": "LGPL-3.0-or-later",  # read from the file as well
    "dav1d": "BSD-2-Clause",
    "drm": "MIT",
    "espeak-ng": "GPL-3.0-or-later",
    "gfortran": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "gmp|hogweed|nettle|unistring": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "gnutls": "LGPL-2.1-or-later",
    "mp3lame": "LGPL-2.0-or-later",
    "onnxruntime|onnxruntime_providers_shared": "MIT",
    "opencore-amrnb|opencore-amrwb": "Apache-2.0",
    "opus": "BSD-3-Clause",
    "quadmath": "LGPL-2.1-or-later",
    "scipy_openblas64_": "BSD-3-Clause",
    "sharpyuv|webp|webpmux": "BSD-3-Clause",
    "SvtAv1Enc": "BSD-3-Clause-Clear",
    "vpl": "MIT",
    "vpx": "BSD-3-Clause",
    "x264|x265": "GPL-2.0-or-later",
    "Xau|xcb|xcb-shape|xcb-shm|xcb-xfixes": "MIT",
}
"""Licences of shared libraries by their names without `lib`, as their projects state them."""

_LIBRARY = re.compile(r"(?:^|/)lib(?P<name>[\w+-]+?)(?:-[0-9a-f]{8})*\.(?:so(?:\.(?P<version>[\d.]+))?|dylib)$")
_FFMPEG = re.compile(rb"lib(?:av|sw)\w+ license: ([ -~]+)")
_CONFIGURATION = re.compile(rb"--[ -~]*--enable-[ -~]+")
_FFMPEG_LICENCES = {"LGPL version 3 or later": "LGPL-3.0-or-later", "GPL version 3 or later": "GPL-3.0-or-later"}


@dataclass(frozen=True, slots=True)
class Library:
    """Shared library in a wheel. `configuration` is FFmpeg's."""

    name: str
    version: str
    licence: str | None
    file: str
    configuration: str = ""

    @property
    def of_compiler(self) -> bool:
        """True for a library of a compiler, whose licence does not extend to programs that use it."""
        return self.name in ("libgfortran", "libquadmath")


@dataclass(frozen=True, slots=True)
class Package:
    """Installed package, what it requires, and the libraries that its wheel carries."""

    name: str
    version: str
    licence: str | None
    requires: tuple[str, ...] = ()
    libraries: tuple[Library, ...] = field(default=())

    @property
    def purl(self) -> str:
        """Package URL, as CycloneDX identifies it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def licence_of(installed: Distribution) -> str | None:
    """Return the SPDX expression of a package's licence; None if its metadata names none that is known."""
    metadata = installed.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    stated = (metadata.get("License") or "").strip()
    if stated in ALLOWED or (" OR " in stated and all(each in ALLOWED for each in stated.split(" OR "))):
        return stated
    if known := ALIASES.get(stated.lower()):
        return known
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or [] if "License ::" in each]
    found = sorted({ALIASES[each.lower()] for each in classifiers if each.lower() in ALIASES})
    return " OR ".join(found) or UNSTATED.get(canonicalize_name(installed.name))


def libraries_of(installed: Distribution) -> Iterator[Library]:
    """Yield the shared libraries that a package carries, links to them left out."""
    seen = set()
    for file in installed.files or ():
        found = _LIBRARY.search(str(file))
        path = Path(str(installed.locate_file(file)))
        if not found or ".cpython-" in str(file) or ".abi3." in str(file) or not path.is_file():
            continue
        name, version = found["name"], found["version"] or installed.version
        if (name, path.stat().st_size) in seen:  # a wheel has no symbolic links: the same file under several names
            continue
        seen.add((name, path.stat().st_size))
        licence = next((each for names, each in LIBRARIES.items() if name in names.split("|")), None)
        configuration = ""
        if licence and name.startswith(("av", "sw")):
            licence, configuration = _ffmpeg(path.read_bytes())
        yield Library(f"lib{name}", version, licence, str(file), configuration)


def _ffmpeg(content: bytes) -> tuple[str | None, str]:
    """Return the licence and the configuration that a library of FFmpeg has in it."""
    stated, configuration = _FFMPEG.search(content), _CONFIGURATION.search(content)
    licence = _FFMPEG_LICENCES.get(stated[1].decode()) if stated else None
    return licence, configuration[0].decode() if configuration else ""


def packages(everything: bool = False) -> list[Package]:
    """Return steadyvoice and what it requires, the installed extras included; or all installed packages."""
    installed = {canonicalize_name(each.name): each for each in distributions()}
    wanted = set(installed) if everything else set[str]()
    waiting = [] if everything else [PROJECT]
    while waiting:
        name = waiting.pop()
        if name in installed and name not in wanted:
            wanted.add(name)
            waiting += _requirements(installed[name], extras=name == PROJECT)
    return [_package(installed[name], wanted) for name in sorted(wanted)]


def _requirements(installed: Distribution, extras: bool) -> list[str]:
    names = []
    for line in installed.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        # Extras of requirements count as far as they are installed: which ones were asked for is not recorded.
        if marker is None or marker.evaluate({"extra": ""}) or (extras and "extra" in str(marker)):
            names.append(canonicalize_name(requirement.name))
    return names


def _package(installed: Distribution, wanted: set[str]) -> Package:
    required = _requirements(installed, extras=canonicalize_name(installed.name) == PROJECT)
    return Package(
        canonicalize_name(installed.name),
        installed.version,
        licence_of(installed),
        tuple(sorted({each for each in required if each in wanted and each != canonicalize_name(installed.name)})),
        tuple(libraries_of(installed)),
    )


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Return whether a licence expression is fulfilled by allowed licences. Parentheses are not understood."""
    alternatives = (each.split(" AND ") for each in expression.split(" OR "))
    return any(all(part in allowed for part in parts) for parts in alternatives)


def problems(found: Sequence[Package]) -> Iterator[str]:
    """Yield a sentence for each licence that is unknown or not allowed."""
    for package in found:
        title, in_notice = f"{package.name} {package.version}", package.name in NAMED_IN_NOTICE
        if package.licence is None:
            yield f"{title}: its metadata names no known licence; find it out, and add it to deploy/sbom.py"
        elif not is_allowed(package.licence, ALLOWED) and not in_notice:
            yield f"{title}: {package.licence} is not on the list of allowed licences"
        for library in package.libraries:
            if library.licence is None:
                yield f"{title}: the licence of {library.file} is unknown; find it out, and add it to deploy/sbom.py"
            elif not (in_notice or library.of_compiler or is_allowed(library.licence, ALLOWED)):
                yield f"{title}: {library.name} in it is under {library.licence}; name the package in NOTICE"


def bill(found: Sequence[Package]) -> dict[str, Any]:
    """Return the bill of materials. It is the same for the same packages: it has no time."""
    by_name = {package.name: package for package in found}
    components = [_component(package) for package in found if package.name != PROJECT]
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {"component": {**_component(by_name[PROJECT]), "type": "application"}}
        if PROJECT in by_name
        else {},
        "components": components,
        "dependencies": [
            {"ref": package.purl, "dependsOn": [by_name[name].purl for name in package.requires]} for package in found
        ],
    }


def _component(package: Package) -> dict[str, Any]:
    component = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        **_licences(package.licence),
    }
    if package.libraries:
        component["components"] = [_library(package, each) for each in package.libraries]
    return component


def _library(package: Package, library: Library) -> dict[str, Any]:
    names = {each.name for each in package.libraries}
    properties = {"file": library.file, "ffmpeg-configuration": library.configuration}
    if library.configuration and names & {"libx264", "libx265"} and "--enable-libx264" in library.configuration:
        properties["note"] = (
            "linked with x264 and x265 (GPL-2.0-or-later): distributed as a whole under GPL-3.0-or-later"
        )
    return {
        "type": "library",
        "bom-ref": f"{package.purl}#{library.file}",
        "name": library.name,
        "version": library.version,
        **_licences(library.licence),
        "properties": [{"name": f"{PROJECT}:{name}", "value": value} for name, value in properties.items() if value],
    }


def _licences(expression: str | None) -> dict[str, Any]:
    return {} if expression is None else {"licenses": [{"expression": expression}]}


def main() -> int:
    """Write the bill, or check the licences; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="file; standard output without it")
    parser.add_argument("--all", action="store_true", help="all installed packages, those for development included")
    parser.add_argument("--check", action="store_true", help="check the licences only")
    options = parser.parse_args()
    found = packages(options.all)
    if options.check:
        wrong = list(problems(found))
        print(
            *wrong, f"{len(found)} packages, {sum(len(each.libraries) for each in found)} libraries in them", sep="\n"
        )
        return 1 if wrong else 0
    text = json.dumps(bill(found), indent=1, ensure_ascii=False) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
