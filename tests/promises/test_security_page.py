"""Security and versions: every promise has tests that exist, and the Pythons are those of the package."""

from __future__ import annotations

import re
import tomllib

import pytest

from .layers import ROOT

TESTS = {
    "Without `api_keys` the gateway refuses": [
        "gateway/security/test_hostile_requests.py::test_gateway_without_keys_does_not_listen_beyond_loopback",
    ],
    "With them, each speech endpoint and": [
        "gateway/security/test_authorization_by_route.py::test_each_credential_opens_its_own_route_class_only",
    ],
    "No spelling of a path (encoded, doubled": [
        "gateway/security/test_authorization_by_route.py::test_no_spelling_of_a_protected_path_is_served_without_a_credential",
    ],
    "Without `admin_token`, `/admin` answers": [
        "gateway/security/test_access_control.py::test_admin_without_token_is_local",
        "gateway/security/test_access_control.py::test_any_proxy_header_means_not_local",
    ],
    "Keys and tokens are compared in": [
        "gateway/security/test_access_control.py::test_only_the_exact_key_is_accepted",
    ],
    "Requests of other sites' pages are": [
        "gateway/security/test_untrusted_callers.py::test_page_of_another_site_is_refused",
        "gateway/websocket/test_access.py::test_foreign_pages_and_hosts_are_refused",
    ],
    "A host name that is neither the": [
        "gateway/security/test_access_control.py::test_only_allowed_hosts_are_accepted",
    ],
    "The dashboard loads nothing from": [
        "gateway/dashboard/test_static_files.py::test_files_comply_with_the_policy_and_parse_no_html",
        "gateway/dashboard/test_sign_in.py::test_sign_in_keeps_the_token_out_of_urls",
    ],
    "A request that repeats `Host`,": [
        "gateway/security/test_hostile_requests.py::test_ambiguous_request_is_refused_and_nothing_behind_it_is_read",
    ],
    "The same holds for requests that take": [
        "gateway/security/test_hostile_requests.py::test_admitted_client_opens_the_fast_lane_to_no_other",
    ],
    "The vendor's address comes from the": [
        "gateway/security/test_untrusted_callers.py::test_caller_cannot_choose_the_vendors_address",
        "gateway/security/test_hostile_requests.py::test_no_voice_or_query_reaches_another_path_of_the_vendor",
        "gateway/security/test_untrusted_callers.py::test_callers_text_never_enters_a_header",
    ],
    "Redirects are not": [
        "providers/http/test_client.py::test_redirects_are_not_followed",
    ],
    "Certificates of `https` and `wss` are": [
        "conformance/test_elevenlabs_errors.py::test_untrusted_certificate_is_refused",
        "gateway/security/test_hostile_requests.py::test_no_code_switches_certificate_checks_off",
    ],
    "A proxy that tunnels does not see the": [
        "providers/http/test_proxies.py::test_tunnel_proxy_does_not_see_the_key",
        "providers/http/test_proxies.py::test_proxy_password_is_sent_to_the_proxy_only",
    ],
    "A vendor's answer is bounded in memory,": [
        "gateway/endpoints/test_hostile_vendors.py::test_gateway_fails_over_and_serves_other_requests_during_a_hostile_response",
        "providers/http/test_content_coding.py::test_decompression_bomb_yields_to_the_event_loop",
    ],
    "eSpeak NG and the neural voice run in": [
        "providers/test_espeak.py::test_library_is_loaded_in_the_child_only",
    ],
    "No key, token or password of the": [
        "gateway/security/test_untrusted_callers.py::test_no_secret_is_revealed",
        "providers/test_elevenlabs.py::test_key_repeated_by_the_vendor_is_redacted",
        "service/test_config_file.py::test_errors_contain_no_secret",
        "fleet/test_store_url.py::test_no_message_ever_shows_the_password",
    ],
    "`log_texts = false`: texts are neither": [
        "gateway/observability/test_access_log.py::test_texts_are_logged_only_with_log_texts",
        "gateway/security/test_privacy.py::test_text_quoted_by_a_vendor_appears_nowhere",
    ],
    "A log record is one line of JSON,": [
        "gateway/observability/test_access_log.py::test_log_record_is_one_json_line",
    ],
    "Queries and headers are not logged, nor": [
        "gateway/websocket/test_access.py::test_key_is_accepted_in_header_query_and_first_message",
    ],
    "No label of a metric takes a value from": [
        "gateway/observability/test_metrics.py::test_no_label_takes_a_callers_value",
    ],
    "The cache and the state file are": [
        "service/cache/test_store.py::test_only_the_owner_can_read_the_file",
        "gateway/security/test_privacy.py::test_state_file_is_its_owners_only",
        "gateway/observability/test_state_file.py::test_state_file_has_a_salted_fingerprint_instead_of_the_key",
    ],
    "The journal holds no text, key or vendor's": [
        "service/journal/test_journal.py::test_outage_is_written_attempt_by_attempt_without_a_word",
    ],
    "OpenTelemetry gets no text and no": [
        "service/telemetry/test_traces.py::test_texts_are_lines_only_if_they_are_wanted",
        "gateway/observability/test_opentelemetry.py::test_call_of_the_fast_lane_belongs_to_the_trace_of_its_client",
    ],
    "Keys, texts and audio do not enter the": [
        "fleet/test_quorum.py::test_fingerprint_differs_between_fleets_and_shows_nothing",
        "fleet/test_simulated_fleet.py::test_hostile_record_is_ignored_and_counted",
    ],
    "Heads, bodies, texts, JSON,": [
        "gateway/http_server/test_connection_limits.py::test_limits_come_from_the_settings",
        "gateway/http_server/test_hostile_clients.py::test_body_of_a_hundred_megabytes",
        "gateway/security/test_untrusted_callers.py::test_deep_or_huge_json_is_refused",
        "gateway/websocket/test_hostile_clients.py::test_hostile_frames_close_their_own_socket_with_a_code",
    ],
    "A client that sends or reads slowly": [
        "gateway/http_server/test_hostile_clients.py::test_slow_senders_non_readers_and_half_closed_clients",
    ],
    "Invalid requests, and clients that": [
        "gateway/http_server/test_hostile_clients.py::test_disconnects_at_any_moment_count_against_no_provider",
    ],
}
"""Tests of each promise, by its beginning: paths below tests/ and names."""


def promises() -> list[str]:
    """Return the promises of SECURITY.md, each in one line."""
    section = (ROOT / "SECURITY.md").read_text("utf-8").split("## What is promised")[1].split("\n## ")[0]
    return [" ".join(each.split()) for each in re.findall(r"^- (.*(?:\n  .*)*)", section, re.MULTILINE)]


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise[:40])
def test_promise_has_tests_that_exist(promise: str) -> None:
    (tests,) = (tests for beginning, tests in TESTS.items() if promise.startswith(beginning))
    for test in tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8")


def test_no_promise_was_dropped() -> None:
    assert len(promises()) == len(TESTS)


def test_named_pythons_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    line = next(
        line for line in (ROOT / "docs/versions.md").read_text("utf-8").splitlines() if line.startswith("Python 3.")
    )
    assert re.findall(r"3\.\d+", line) == declared
