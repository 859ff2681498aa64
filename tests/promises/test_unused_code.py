"""Code that only tests use: it is moved to the tests, or removed."""

from __future__ import annotations

import ast
import re
from collections import Counter

from .layers import PACKAGE

CALLED_FROM_OUTSIDE = {
    "buffer_updated": "asyncio.BufferedProtocol",
    "can_generate_metrics": "Pipecat",
    "data_received": "asyncio.Protocol",
    "eof_received": "asyncio.Protocol",
    "execute_with_retry": "user, as documented",
    "flush_audio": "Pipecat",
    "language_to_service_language": "Pipecat",
    "lift": "user, as documented",
    "on_broken_pipe": "rich.Console",
    "pause_writing": "uvicorn's protocol",
    "resume_writing": "uvicorn's protocol",
    "run_tts": "Pipecat",
    "supports_processing_metrics": "Pipecat",
    "update_options": "user, as documented",
    "peak_level": "tests, as the reference that the faster checks of silence are compared with",
}
"""Names that no module of the package mentions again, and what calls them."""


def test_no_function_or_class_is_used_by_tests_only() -> None:
    sources = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    mentions: Counter[str] = Counter()
    for source in sources.values():
        mentions.update(re.findall(r"\w+", re.sub(r'""".*?"""', "", source, flags=re.DOTALL)))
    unused = {
        node.name
        for source in sources.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and mentions[node.name] == 1
        and not node.name.startswith("__")
        and not any(isinstance(each, ast.Call) for each in node.decorator_list)  # registered, such as a command
    }
    assert sorted(unused - CALLED_FROM_OUTSIDE.keys()) == []
    assert sorted(CALLED_FROM_OUTSIDE.keys() - unused) == []
