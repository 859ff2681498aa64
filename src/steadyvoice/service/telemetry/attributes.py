"""Names of spans, events and attributes in OpenTelemetry.

Names under `gen_ai.` are those of OpenTelemetry's semantic conventions for generative AI, as of version 1.41:
https://github.com/open-telemetry/semantic-conventions-genai. Their status is "development", so that they may change.
They know no speech synthesis of its own: it is the operation `generate_content` with the output type `speech`. Names
under `error.` and `http.` are stable conventions. All others are this project's, under `steadyvoice.`.
"""

from __future__ import annotations

# Spans.
UTTERANCE = "utterance"
TURN = "turn"
CIRCUIT = "circuit"  # followed by the new state
GENERATE_CONTENT = "generate_content"  # followed by the provider

# Conventions for generative AI (development).
OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_KIND = "gen_ai.provider.name"
OUTPUT_TYPE = "gen_ai.output.type"
SPEECH = "speech"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_SEED = "gen_ai.request.seed"
RESPONSE_ID = "gen_ai.response.id"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"  # seconds
INPUT_MESSAGES = "gen_ai.input.messages"  # JSON; only if texts are wanted

# Stable conventions.
ERROR_TYPE = "error.type"  # kind of the failure
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"

# Utterances and turns.
API = "steadyvoice.api"
REQUEST_ID = "steadyvoice.request_id"
TURN_ID = "steadyvoice.turn.id"
OUTCOME = "steadyvoice.outcome"
PROVIDER = "steadyvoice.provider"
FIRST_CHOICE = "steadyvoice.first_choice"
VOICE = "steadyvoice.voice"
FORMAT = "steadyvoice.format"
CHARACTERS = "steadyvoice.characters"  # of the text
AUDIO = "steadyvoice.audio"  # seconds delivered
FIRST_AUDIO = "steadyvoice.first_audio"  # seconds until the caller got audio
BILLED = "steadyvoice.characters.billed"  # as the vendors state
UNKNOWN = "steadyvoice.characters.unknown"  # possibly billed
WASTED = "steadyvoice.characters.wasted"  # billed or possibly billed, and not delivered

# Attempts.
ROLE = "steadyvoice.attempt.role"
RESULT = "steadyvoice.attempt.result"
BEGIN = "steadyvoice.attempt.begin"  # characters
END = "steadyvoice.attempt.end"
WAITED = "steadyvoice.attempt.waited"  # seconds
HELD_BACK = "steadyvoice.attempt.held_back"  # seconds
CHARGE = "steadyvoice.attempt.charge"
HEDGE = "steadyvoice.attempt.hedge"
BLAME = "steadyvoice.failure.blame"
MESSAGE = "steadyvoice.failure.message"  # only if texts are wanted: vendors quote them
STATUS = "steadyvoice.failure.status"  # of the vendor's response
RETRY_AFTER = "steadyvoice.retry_after"  # seconds

# Circuits.
FROM_STATE = "steadyvoice.circuit.from"
TO_STATE = "steadyvoice.circuit.to"
CIRCUIT_STATE = "steadyvoice.circuit.state"
CAUSE = "steadyvoice.circuit.cause"
REASON = "steadyvoice.circuit.reason"
FAILURE_RATE = "steadyvoice.circuit.failure_rate"
CALLS = "steadyvoice.circuit.calls"
FAILURES = "steadyvoice.circuit.failures"
OUTAGE = "steadyvoice.circuit.outage"  # seconds since the circuit left the state closed

# Links, by what they mean.
LINK = "steadyvoice.link"
REFUSED_BY = "refused_by"  # from a refused attempt to the transition, or the failure, for which it is refused
CHANGED_CIRCUIT = "changed_circuit"  # from an attempt to the transition that its result caused
CALLED_FROM = "called_from"  # from a transition to the caller's span in which it happened

# Events.
ACCEPTED_EVENT = "accepted"
FIRST_AUDIO_EVENT = "first_audio"
SWITCHED_EVENT = "switched"
SWITCHED_FROM = "steadyvoice.switch.from"
SWITCHED_TO = "steadyvoice.switch.to"
SWITCHED_AT = "steadyvoice.switch.second"  # of the audio
SWITCHED_CHARACTER = "steadyvoice.switch.character"  # of the text

# Resource.
REPLICA = "service.instance.id"
WORKER = "steadyvoice.worker"
