// The vendors' own JavaScript clients, set on a simulator. Prints what they made of it as JSON; the tests judge it.
//
//   node clients.js FOLDER_WITH_NODE_MODULES BASE_URL VOICE TEXT [SIMULATOR_URL]
//
// With the simulator's own URL it is behind a gateway at the other, which keeps its failures from its callers.

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, url, voice, text, simulator = url] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { ElevenLabsClient } = require("@elevenlabs/elevenlabs-js");
const serialization = require("@elevenlabs/elevenlabs-js/serialization");
const { OpenAI } = require("openai");

const eleven = new ElevenLabsClient({ apiKey: "any-key", baseUrl: url });
const openai = new OpenAI({ apiKey: "any-key", baseURL: `${url}/v1` });
const CUTS = ["cut;after=0.5", "cut-close;after=0.5", "cut-terminated;after=0.5"];
const FAULTS = ["json", "json;declared=false", "html;declared=false", "empty", ...CUTS];
const results = {};

await speakElevenLabs();
await readElevenLabs();
if (simulator === url) await failElevenLabs();
await speakOpenAI();
if (simulator === url) await failOpenAI();
console.log(JSON.stringify(results));

async function speakElevenLabs() {
  const speech = eleven.textToSpeech;
  for (const outputFormat of ["mp3_44100_128", "pcm_16000", "opus_48000_64", "ulaw_8000", "wav_24000"]) {
    await record(`convert ${outputFormat}`, async () => whole(await speech.convert(voice, { text, outputFormat })));
    await record(`stream ${outputFormat}`, async () => whole(await speech.stream(voice, { text, outputFormat })));
  }
  const outputFormat = "pcm_16000";
  await record("with timestamps", () => speech.convertWithTimestamps(voice, { text, outputFormat }));
  await record("stream with timestamps", async () =>
    gathered(await speech.streamWithTimestamps(voice, { text, outputFormat })));
  await record("every option", async () =>
    whole(await speech.stream(voice, {
      text,
      outputFormat,
      modelId: "eleven_flash_v2_5",
      languageCode: "en",
      seed: 7,
      previousText: "Before.",
      nextText: "After.",
      applyTextNormalization: "auto",
      voiceSettings: { stability: 0.5, similarityBoost: 0.75, style: 0, useSpeakerBoost: true, speed: 1.1 },
    })));
}

async function readElevenLabs() {
  await record("voices", () => eleven.voices.getAll());
  await record("voices found", () => eleven.voices.search({ search: "george" }));
  await record("voice", () => eleven.voices.get(voice));
  await record("models", () => eleven.models.list());
  await record("user", () => eleven.user.get());
  await record("subscription", () => eleven.user.subscription.get());
  // Its schemas check nothing unless they are asked to.
  await record("voices strictly", () => strictly(serialization.GetVoicesResponse, "/v1/voices"));
  await record("voices found strictly", () => strictly(serialization.GetVoicesV2Response, "/v2/voices"));
  await record("models strictly", () => strictly(serialization.models.list.Response, "/v1/models"));
  await record("user strictly", () => strictly(serialization.User, "/v1/user"));
  await record("subscription strictly", () => strictly(serialization.Subscription, "/v1/user/subscription"));
}

async function failElevenLabs() {
  const speak = (fault, more = {}) => async () =>
    whole(await eleven.textToSpeech.convert(voice, { text, outputFormat: "pcm_16000", ...more }, under(fault)));
  for (const status of [400, 401, 403, 404, 409, 422, 425]) {
    await record(`refused ${status}`, speak(`refuse;status=${status}`));
  }
  await record("refused in a list", speak("refuse;status=422;form=list"));
  await record("refused 429", speak("refuse;code=system_busy;retry_after=1"));
  await record("refused 503", speak("refuse;status=503;retry_after=1"));
  await record("no text", () => eleven.textToSpeech.convert(voice, { text: "" }));
  await record("unknown voice", () => eleven.textToSpeech.convert("nobody", { text }));
  for (const fault of FAULTS) await record(fault, speak(fault));
  await record("hang", async () =>
    eleven.textToSpeech.convert(voice, { text }, { ...under("hang"), timeoutInSeconds: 0.3, maxRetries: 0 }));
  await record("error line", async () =>
    gathered(await eleven.textToSpeech.streamWithTimestamps(voice, { text }, under("error-line;after=0.5"))));
}

async function speakOpenAI() {
  for (const response_format of ["mp3", "opus", "aac", "flac", "wav", "pcm"]) {
    await record(`openai ${response_format}`, async () => whole((await openaiSpeech({ response_format })).body));
  }
  await record("openai sse", async () => (await openaiSpeech({ response_format: "pcm", stream_format: "sse" })).text());
  await record("openai models", async () => gathered(await openai.models.list()));
}

async function failOpenAI() {
  for (const status of [400, 401, 403, 404, 409, 422, 429, 500]) {
    await record(`openai refused ${status}`, () =>
      openaiSpeech({}, under(`refuse;status=${status};retry_after=0.001`)));
  }
  await record("openai no text", () => openaiSpeech({ input: "" }));
  await record("openai hang", () => openaiSpeech({}, { ...under("hang"), timeout: 300, maxRetries: 0 }));
  await record("openai reset", () => openaiSpeech({}, { ...under("reset"), maxRetries: 0 }));
  for (const fault of FAULTS) {
    await record(`openai ${fault}`, async () =>
      whole((await openaiSpeech({ response_format: "pcm" }, under(fault))).body));
  }
}

function openaiSpeech(more, options) {
  return openai.audio.speech.create({ model: "gpt-4o-mini-tts", voice: "alloy", input: text, ...more }, options);
}

function under(fault) {
  return { headers: { "x-sim-fault": fault } };
}

// What an act came to, and how many requests and characters it took.
async function record(name, act) {
  const before = await totals();
  const outcome = await act().then((value) => ({ value }), (error) => ({ error: describe(error) }));
  const after = await totals();
  results[name] = {
    ...outcome,
    requests: after.requests - before.requests,
    charged: after.charged - before.charged,
  };
}

function describe(error) {
  const code = error.body?.detail?.code ?? error.code;
  return { class: error.constructor.name, status: error.statusCode ?? error.status, code, message: error.message };
}

async function totals() {
  return (await (await fetch(`${simulator}/sim/ledger`)).json()).totals;
}

async function strictly(schema, path) {
  const document = await (await fetch(url + path, { headers: { "xi-api-key": "any-key" } })).json();
  const read = await schema.parse(document, { unrecognizedObjectKeys: "passthrough" });
  if (!read.ok) throw new TypeError(JSON.stringify(read.errors));
  return true;
}

async function whole(stream) {
  return Buffer.concat(await gathered(stream)).toString("base64");
}

async function gathered(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}
