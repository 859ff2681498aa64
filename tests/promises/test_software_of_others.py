"""Settings of other software in the documentation: Prometheus and nginx."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from steadyvoice.service.config_file import ServerConfig

from .documentation import all_blocks

ADDRESS = f"127.0.0.1:{ServerConfig().port}"


def example(page: str, language: str) -> str:
    (code,) = [block.code for block in all_blocks() if (block.page, block.language) == (page, language)]
    return code


def test_prometheus_scrapes_the_gateways_address() -> None:
    settings = yaml.safe_load(example("docs/metrics.md", "yaml"))

    (job,) = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": [ADDRESS]}]


def test_nginx_passes_everything_to_the_gateways_address() -> None:
    assert f"proxy_pass http://{ADDRESS};" in example("docs/operations.md", "nginx")


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_takes_the_settings(tmp_path: Path) -> None:
    server = f"server {{ listen 127.0.0.1:8080;\n{example('docs/operations.md', 'nginx')}}}"
    path = tmp_path / "nginx.conf"
    path.write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{server} }}\n", "utf-8"
    )
    done = subprocess.run(["nginx", "-t", "-p", tmp_path, "-c", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
