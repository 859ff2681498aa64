// What the page knows: the last board, and the steps of the past hour that its answers add up to. Nothing grows for ever.

const KEPT = 240; // steps

export class Store {
  constructor() {
    this.forget();
  }

  /** From which step on the next answer should tell. */
  get since() {
    return this.newest ? this.newest - 1 : 1;
  }

  /** Take a board in. One of another edition is another process's: what was known of the hour is not its. */
  take(board) {
    if (board.edition !== this.edition && this.edition) this.forget();
    this.edition = board.edition;
    this.now = Math.floor(Date.parse(board.at) / 1000 / board.step);
    merged(this.heard, board.heard, this.now);
    for (const [name, provider] of Object.entries(board.providers)) {
      provider.done = merged(this.of(this.done, name), provider.done, this.now);
      provider.states = merged(this.of(this.states, name), provider.states, this.now);
    }
    this.newest = this.now;
    this.board = { ...board, heard: [...this.heard.values()] };
    return this.board;
  }

  forget() {
    this.heard = new Map();
    this.done = new Map();
    this.states = new Map();
    this.newest = null;
    this.board = null;
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
