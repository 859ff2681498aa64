// Last overview, and the steps of the past hour collected from all responses; bounded.

const KEPT = 240; // steps

export class OverviewStore {
  constructor() {
    this.forget();
  }

  /** First step that the next response must contain. */
  get since() {
    return this.newest ? this.newest - 1 : 1;
  }

  /** Merge an overview. Another edition means that the gateway was restarted, and its statistics begin again. */
  take(overview) {
    if (overview.edition !== this.edition && this.edition) this.forget();
    this.edition = overview.edition;
    this.now = Math.floor(Date.parse(overview.at) / 1000 / overview.step);
    merged(this.outcomes, overview.outcomes, this.now);
    for (const [name, provider] of Object.entries(overview.providers)) {
      provider.attempts = merged(this.of(this.attempts, name), provider.attempts, this.now);
      provider.states = merged(this.of(this.states, name), provider.states, this.now);
    }
    this.newest = this.now;
    this.overview = { ...overview, outcomes: [...this.outcomes.values()] };
    return this.overview;
  }

  forget() {
    this.outcomes = new Map();
    this.attempts = new Map();
    this.states = new Map();
    this.newest = null;
    this.overview = null;
  }

  of(kept, name) {
    if (!kept.has(name)) kept.set(name, new Map());
    return kept.get(name);
  }
}

function merged(kept, steps, now) {
  for (const step of steps) kept.set(step[0], step);
  for (const number of kept.keys()) if (number <= now - KEPT || number > now) kept.delete(number);
  return [...kept.values()].sort((a, b) => a[0] - b[0]);
}
