"""Limits in the documentation are those of the code."""

from __future__ import annotations

import pytest

from steadyvoice.gateway import state_file
from steadyvoice.gateway.http_server.connections import ConnectionLimits
from steadyvoice.gateway.http_server.output import MAX_UNSENT_BYTES
from steadyvoice.gateway.http_server.websocket import MAX_MESSAGE_BYTES, PING_INTERVAL
from steadyvoice.gateway.websocket.session import MAX_OPEN_CONTEXTS
from steadyvoice.providers.http import client, connection
from steadyvoice.providers.websocket import connection as websocket_connection
from steadyvoice.providers.websocket import context_connection
from steadyvoice.service.cache import store
from steadyvoice.service.config_file import ServerConfig
from steadyvoice.service.pipeline.audio_validation import MAX_UNVALIDATED_BYTES
from steadyvoice.service.pipeline.prefetch import PREFETCH_SECONDS
from steadyvoice.wire.json_lines import MAX_LINE_BYTES, MAX_SKELETON_BYTES
from steadyvoice.wire.text_file import MAX_FILE_BYTES, MAX_TOML_DEPTH

from .documentation import Table, all_tables

SERVER = ConnectionLimits()


def size(count: int) -> str:
    """Write a number of bytes as the pages do."""
    return f"{count // 2**20} MiB" if count % 2**20 == 0 else f"{count // 1024} KiB"


LIMITS = {
    "docs/operations.md": {
        "head of a request": f"{size(SERVER.head_bytes)}, {SERVER.headers} headers, URL of {size(SERVER.url_bytes)}",
        "pipelined requests": f"{SERVER.pipelined}",
        "unsent bytes of a client": size(MAX_UNSENT_BYTES),
        "`--config`, `sim --script`": f"{size(MAX_FILE_BYTES)}, {MAX_TOML_DEPTH} levels",
        "state file": size(state_file._MAX_BYTES),
    },
    "docs/gateway.md": {
        "message of the client": size(MAX_MESSAGE_BYTES),
        "contexts of a websocket": f"{MAX_OPEN_CONTEXTS} at once",
        "a client that answers no ping for": f"{PING_INTERVAL:g} s",
    },
    "docs/limits.md": {
        "bytes of a response before audio": size(MAX_UNVALIDATED_BYTES),
        "response headers": size(connection._MAX_HEAD),
        "one line of audio": f"{size(MAX_LINE_BYTES)}, of which timestamps {size(MAX_SKELETON_BYTES)}",
        "one message of a vendor's websocket": f"{size(websocket_connection.MAX_MESSAGE)}, then `not_audio`; "
        f"beyond {size(context_connection.LONG_MESSAGE)}",
        "bytes read from a connection": size(connection.READ_BUFFER),
        "body of a vendor's error": f"{size(client.MAX_ERROR_BODY)}, {size(client.MAX_DOCUMENT)} after decompression; "
        f"beyond {size(client.MAX_PARSED)}",
        "`stream()`, and streaming": f"{['', 'one', 'two', 'three'][int(PREFETCH_SECONDS)]} seconds of audio",
        "audio shared with other callers": f"{store._MAX_ENTRY_BYTES // 10**6} MB",
    },
}
"""What the row of a table that begins with these words says."""


@pytest.mark.parametrize("page", LIMITS)
def test_row_has_the_limit_of_the_code(page: str) -> None:
    rows = [row for table in tables_of(page) for row in table.rows]
    for beginning, limit in LIMITS[page].items():
        (row,) = [" | ".join(each) for each in rows if each[0].startswith(beginning)]
        assert limit in row


def tables_of(page: str) -> list[Table]:
    return [table for table in all_tables() if table.page == page and table.mark.argument.endswith("limits_pages.py")]


@pytest.mark.parametrize("page", LIMITS)
def test_other_rows_have_no_number_of_their_own(page: str) -> None:
    """Rows without a number of the code name the setting that has it."""
    settings = {*ServerConfig.model_fields, "inactivity_timeout", "max_audio_bytes"}
    for table in tables_of(page):
        others = [row for row in table.rows if not row[0].startswith(tuple(LIMITS[page]))]
        unexplained = [row[0] for row in others if not any(f"`{name}`" in " ".join(row) for name in settings)]
        assert set(unexplained) <= OTHERS


OTHERS = {"strings that cannot be encoded as UTF-8 (unpaired surrogates)", "nesting of a JSON body",
          "bytes waiting in a vendor's connection"}  # fmt: skip
"""Limits of libraries, tested where they apply."""
