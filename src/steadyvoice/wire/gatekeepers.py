"""Answers of whoever stands in front of a vendor: a firewall, bot protection, a proxy. They tell nothing of the key.

Sources: https://developers.cloudflare.com/cloudflare-challenges/challenge-types/challenge-pages/detect-response/ and
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/; the others by
answers that public reports quote.
"""

from __future__ import annotations

import re

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.complaint import Answer, Complaint, header

_SERVERS = re.compile(r"cloudflare|akamai|cloudfront|awselb|sucuri|imperva|incapsula|ddos-guard|qrator|big-?ip", re.I)
_MARKS = ("x-sucuri-id", "x-iinfo", "x-amzn-waf-action", "x-datadome", "x-akamai-reference-id")
_PLAIN_TEXT = re.compile(rb"\s*(error code: 1\d{3}|RBAC: access denied)\s*\Z")  # Cloudflare; Envoy
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|(html|head|title|body|center|h1)\b|!--|\?xml)", re.IGNORECASE)
_READ = 4096  # bytes of a body


def class_of_page(answer: Answer, complaint: Complaint) -> type[TTSError] | None:
    """Return the class of error of an answer that is not the vendor's own, or None if it may be."""
    if answer.status < 400:
        return None
    if header(answer.headers, "cf-mitigated"):
        return speech.TTSBlockedError
    if answer.status in (401, 403) and _by_a_gatekeeper(answer, complaint):
        return speech.TTSBlockedError
    if answer.status in (400, 422) and not complaint.spoken and _is_page(answer):
        return speech.TTSNotAudioError  # a vendor tells callers their mistakes in JSON
    return None


def _by_a_gatekeeper(answer: Answer, complaint: Complaint) -> bool:
    body = answer.body[:_READ]
    if b'"cloudflare_error"' in body:
        return True
    of_aws = header(answer.headers, "x-amzn-errortype") is not None
    if answer.status == 403 and of_aws and (complaint.code, complaint.message) == (None, "Forbidden"):
        return True  # its API Gateway says so in JSON
    if complaint.spoken:  # vendors stand behind Cloudflare, too, and its name is on all that they say
        return False
    if answer.status == 403 or _is_page(answer) or _PLAIN_TEXT.match(body):  # a vendor says in JSON what it forbids
        return True
    server = header(answer.headers, "server") or ""
    return bool(_SERVERS.search(server)) or any(header(answer.headers, mark) is not None for mark in _MARKS)


def _is_page(answer: Answer) -> bool:
    media = (header(answer.headers, "content-type") or "").strip().lower()
    return media.startswith(("text/html", "application/xhtml")) or _HTML.match(answer.body[:_READ]) is not None
