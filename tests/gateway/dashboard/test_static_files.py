"""Static files of the dashboard: headers, access, and presence in the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from steadyvoice import Tone
from steadyvoice.gateway.dashboard import dashboard_routes

from ..running_gateway import running_gateway

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "src" / "steadyvoice" / "gateway" / "page"
WEIGHT = 120_000  # bytes, all of it


async def test_content_security_policy() -> None:
    async with running_gateway(Tone()) as gateway:
        answer = await gateway.fetch("GET", "/")
        assert answer.content_type == "text/html"
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
            "img-src": "'self'", "media-src": "blob:", "base-uri": "'none'", "form-action": "'none'",
            "frame-ancestors": "'none'", "require-trusted-types-for": "'script'",
        }  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_known_etag_gets_304() -> None:
    async with running_gateway(Tone()) as gateway:
        for path in dashboard_routes():
            first = await gateway.fetch("GET", path)
            assert first.status == 200
            again = await gateway.fetch("GET", path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["content-security-policy"]


async def test_page_needs_no_token_and_cannot_be_embedded() -> None:
    async with running_gateway(Tone(), server={"admin_token": "t"}) as gateway:
        assert (await gateway.fetch("GET", "/")).status == 200
        assert (await gateway.fetch("GET", "/admin/overview")).status == 401
        assert (await gateway.fetch("GET", "/", headers={"host": "evil.example"})).status == 403
        embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
        assert (await gateway.fetch("GET", "/page/main.js", headers=embedded)).status == 403
        assert (await gateway.fetch("GET", "/page/admin.py")).status == 404
        assert (await gateway.fetch("POST", "/")).status == 405


def test_files_comply_with_the_policy_and_parse_no_html() -> None:
    for file in PAGE.iterdir():
        text = file.read_text("utf-8")
        forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setAttribute\(.style"
        assert not re.search(forbidden, text), file.name
        assert not re.search(r"https?://(?!www\.w3\.org|html\.spec\.whatwg\.org)", text), file.name
    html = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


def test_all_imported_modules_exist_and_the_page_is_small() -> None:
    names = {file.name for file in PAGE.iterdir()}
    asked = {"main.js"}
    for file in PAGE.glob("*.js"):
        asked |= set(re.findall(r'from "\./([\w.]+)"', file.read_text("utf-8")))
    assert {name for name in names if name.endswith(".js")} == asked
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < WEIGHT


def test_wheel_contains_the_page(tmp_path: Path) -> None:
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packed = set(zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist())
    assert {f"steadyvoice/gateway/page/{file.name}" for file in PAGE.iterdir()} <= packed
