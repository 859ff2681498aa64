// Test synthesis: a call through the live service, with its progress, audio and attempts.

import { ask, json } from "./api.js";
import { h, set, setText } from "./dom.js";
import { field } from "./dialog.js";
import { outcome } from "./icons.js";
import { account } from "./waterfall.js";
import { seconds } from "./formatting.js";

const WAIT = 1500; // milliseconds to wait for the call in the event stream, before it is fetched

export class TestSynthesis {
  constructor(parent, calls) {
    this.calls = calls;
    this.text = h("textarea", { rows: 2, maxlength: 2000, name: "text" });
    this.text.value = "Good morning, this is a test.";
    this.voice = h("input", { type: "text", name: "voice", autocomplete: "off", spellcheck: "false" });
    this.voice.value = "default";
    this.go = h("button", { type: "submit", class: "main" }, "Synthesize");
    this.steps = h("ol", { class: "steps", "aria-live": "polite" });
    this.audio = h("audio", { controls: true, hidden: true, "aria-label": "Synthesized audio" });
    this.account = h("div");
    const form = h("form", { class: "synthesis-form" }, field("Text", this.text), field("Voice", this.voice), this.go);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    parent.append(form, this.steps, this.audio, this.account);
  }

  async say() {
    const begun = performance.now();
    const id = crypto.randomUUID?.() ?? `say-${Math.random().toString(36).slice(2)}`;
    const step = (...words) => this.steps.append(h("li", {}, h("time", {}, seconds((performance.now() - begun) / 1000)), " ", ...words));
    this.steps.replaceChildren();
    this.account.replaceChildren();
    set(this.audio, { hidden: true });
    set(this.go, { disabled: true });
    step("request sent");
    try {
      const answer = await ask("/admin/say", {
        method: "POST", body: { text: this.text.value, voice: this.voice.value }, headers: { "x-request-id": id },
      });
      step("first audio from ", h("strong", {}, answer.headers.get("x-steadyvoice-provider")), ", outcome so far ", outcome(answer.headers.get("x-steadyvoice-outcome")));
      this.play(await collected(answer, step));
    } catch (refused) {
      step(h("span", { class: "error" }, refused.status ? refused.message : "the audio broke off before its end"));
    } finally {
      set(this.go, { disabled: false });
    }
    await this.showCall(id);
  }

  play(blob) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(blob);
    this.audio.src = this.url;
    set(this.audio, { hidden: false });
    this.audio.play().catch(() => {}); // browsers may require a click on the player
  }

  async showCall(id) {
    for (let waited = 0; waited < WAIT && !this.calls.find(id); waited += 100) await new Promise((done) => setTimeout(done, 100));
    const call = this.calls.find(id) ?? (await json("/admin/calls?limit=500").catch(() => ({ calls: [] }))).calls.find((each) => each.request_id === id);
    if (call) this.account.replaceChildren(account(call));
  }
}

async function collected(answer, step) {
  const parts = [];
  let size = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
  }
  const line = h("span");
  setText(line, `complete, ${Math.ceil(size / 1024)} KB`);
  step(line);
  return new Blob(parts, { type: answer.headers.get("content-type") });
}
