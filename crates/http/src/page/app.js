// The page of a tidings hub: subscribe, publish, and watch what arrives.
//
// What it guarantees:
// - Text from the network enters the document as text, never as markup.
// - Everything it keeps is bounded by `LIMITS`, however fast and long the hub sends.
// - A token stays in this tab: it is never in an address, nor in a command on the screen.
// - It speaks the public API alone. The topic of an event is not on the stream, so it shows a topic only when
//   it knows it: the subscription names a single topic, the page published the event, or the hub said so in a poll.
// - A latency is measured from the page's own publish to the receipt of the id that the hub answered.

const LIMITS = {
  rows: 500, // kept in the list, newest first
  eventChars: 16 * 1024 * 1024, // of one event on the wire; a longer one ends the stream with a problem
  shownChars: 16 * 1024, // of one event's data, kept for the list
  foldedChars: 400, // shown before "show all"
  foldedLines: 6,
  ownIds: 2_000, // ids published here whose time and topic are remembered
  ownTypes: 200, // types published here that an EventSource listens for
  latencies: 200, // behind the median
  replayIds: 10_000, // watched for the end of a replay
  topicLookup: 100, // newest events whose topics one poll asks for
  topicLookupMs: 1_000, // at most one such poll in this time
  demoMs: 30_000,
  demoEveryMs: 100,
  demoInFlight: 20,
  figureMs: 60_000, // the time that a chart spans
  figureHoleMs: 2_500, // more time than this between two samples leaves a hole in the line
  retryMs: 2_000, // until the hub says otherwise
  retryMinMs: 250,
  retryMaxMs: 3_600_000,
};

const CONTROL_TYPES = ["tidings.gap", "tidings.lagged", "tidings.shutdown", "tidings.finished", "tidings.expired"];

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

// ---------------------------------------------------------------------------------------------------------
// The event stream format (WHATWG HTML, section 9.2), for the subscriptions read with fetch.

class EventDecoder {
  #rest = "";
  #afterCr = false;
  #data = "";
  #type = "";
  #id;
  #items = [];

  constructor(lastEventId) {
    this.#id = lastEventId;
  }

  /** Takes the next text of the stream; returns what it completed: events and retry times, in order. */
  push(text) {
    this.#items = [];
    const ends = /\r\n?|\n/g;
    if (this.#afterCr && text.length > 0) {
      ends.lastIndex = text[0] === "\n" ? 1 : 0;
      this.#afterCr = false;
    }
    let from = ends.lastIndex;
    for (let end; (end = ends.exec(text)); from = ends.lastIndex) {
      const line = this.#rest + text.slice(from, end.index);
      this.#rest = "";
      this.#afterCr = end[0] === "\r" && ends.lastIndex === text.length;
      this.#takeLine(line);
    }
    this.#rest += text.slice(from);
    if (this.#rest.length + this.#data.length > LIMITS.eventChars) {
      throw new RangeError(`an event is longer than ${number.format(LIMITS.eventChars)} characters`);
    }
    return this.#items;
  }

  #takeLine(line) {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data += value + "\n";
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.#items.push({ retryMs: Number(value) });
  }

  #dispatch() {
    if (this.#data !== "") {
      this.#items.push({ id: this.#id, type: this.#type || "message", data: this.#data.slice(0, -1) });
    }
    this.#data = "";
    this.#type = "";
  }
}

// ---------------------------------------------------------------------------------------------------------
// The token, for as long as the tab is open.

const token = {
  text: sessionStorage.getItem("tidings.token") ?? "",

  /** Takes what a person pasted; throws a Problem when that can be no token. */
  use(pasted) {
    const text = pasted.trim().replace(/^Bearer\s+/i, "");
    if (!/^[!-~]*$/.test(text)) {
      throw new Problem("This is not a token.", "A token is one word of letters, digits and a few signs.");
    }
    this.text = text;
    if (text === "") sessionStorage.removeItem("tidings.token");
    else sessionStorage.setItem("tidings.token", text);
  },

  get headers() {
    return this.text === "" ? {} : { authorization: `Bearer ${this.text}` };
  },
};

// ---------------------------------------------------------------------------------------------------------
// The hub's API.

/** What the hub refused, or why it could not be asked: a title and a detail for people. */
class Problem extends Error {
  constructor(title, detail, { status, type, retryMs } = {}) {
    super(title);
    this.title = title;
    this.detail = detail;
    this.status = status;
    this.type = type;
    this.retryMs = retryMs;
  }

  /** True when another token may help. */
  get asksForToken() {
    return ["missing-token", "invalid-token", "missing-right"].some((kind) => this.type?.endsWith(`:${kind}`));
  }

  /** True when asking again may help. */
  get passes() {
    return this.status === undefined || this.status === 429 || this.status >= 500;
  }

  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const title = body.title ?? `The hub answered ${response.status} ${response.statusText}`.trim();
    const retryMs = Number(response.headers.get("retry-after")) * 1_000 || undefined;
    const { status } = response;
    return new Problem(String(title), String(body.detail ?? ""), { status, type: String(body.type), retryMs });
  }
}

async function ask(url, options) {
  let response;
  try {
    const headers = { ...token.headers, ...options.headers };
    response = await fetch(url, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The hub cannot be reached", "It may be restarting, or the network is down.");
  }
  if (!response.ok) throw await Problem.of(response);
  return response;
}

function eventsUrl(query, more = []) {
  const url = new URL("events", document.baseURI);
  for (const topic of query.topics) url.searchParams.append("topic", topic);
  for (const type of query.types) url.searchParams.append("event", type);
  for (const [name, value] of more) url.searchParams.append(name, value);
  // Readable in an address or a command line, and just as valid there.
  url.search = url.search.replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%2C", ",");
  return url;
}

/** A URL that an EventSource can open, which cannot send a token: it is exchanged for a ticket. */
async function ticketUrl(query, more, signal) {
  const { topics, types: events } = query;
  const response = await ask(new URL("tickets", document.baseURI), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ topics, events, ...Object.fromEntries(more) }),
    signal,
  });
  const { url } = await response.json();
  return new URL(`events${new URL(url, document.baseURI).search}`, document.baseURI);
}

/** The pieces of a text body as they come. */
async function* textsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let piece; !(piece = await reader.read()).done; ) yield piece.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The parameters that say where a new subscription begins. */
function startOf(query) {
  return query.last === undefined ? [] : [["last", query.last]];
}

/** The JSON of a publish. The data is JSON text and stays as it was written: no number loses a digit here. */
function publishBody({ topic, type, dataJson }) {
  const fields = [`"topic":${JSON.stringify(topic)}`];
  if (type !== "") fields.push(`"event":${JSON.stringify(type)}`);
  if (dataJson !== "") fields.push(`"data":${dataJson}`);
  return `{${fields.join(",")}}`;
}

async function publish(event) {
  const response = await ask(new URL("events", document.baseURI), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: publishBody(event),
  });
  return (await response.json()).id;
}

/**
 * The newest `count` kept events that match, with their topics, and the position behind them. Waits `waitSeconds`
 * for the hub to find one: 0 where there may be none, so that nothing is held up.
 */
async function newestOf(query, count, waitSeconds, signal) {
  const more = [["last", count], ["mode", "poll"], ["wait", waitSeconds], ["control", "off"]];
  const response = await ask(eventsUrl(query, more), { headers: { accept: "application/json" }, signal });
  return response.status === 204 ? { events: [] } : response.json();
}

// ---------------------------------------------------------------------------------------------------------
// A subscription: one stream, reconnected from the last id, until it is cut or stopped.

class Subscription {
  #watcher;
  #ended; // AbortController of the current connection and of what waits for the next
  #source; // the native EventSource, if that is what reads
  #listened = new Set();
  #replay; // counts what is replayed after a (re)connect
  #position = ""; // where the stream began, as long as no event has brought an id
  #connects = 0;
  #isFinished = false; // nothing comes after what was read
  #isExpired = false; // the hub ended the stream because a right did

  state = "idle"; // idle, connecting, open, waiting, cut, finished, failed
  lastEventId = "";
  retryMs = LIMITS.retryMs;

  constructor(query, watcher) {
    this.query = query;
    this.#watcher = watcher;
  }

  /** The topic of every event of this subscription, or undefined when the stream alone does not tell. */
  get onlyTopic() {
    const [topic, ...others] = this.query.topics;
    return others.length === 0 && !/[*{}]/.test(topic) ? topic : undefined;
  }

  /** Connects; from the last id when there is one, otherwise where the query begins. */
  connect() {
    this.#ended?.abort();
    this.#ended = new AbortController();
    this.#run(this.#ended.signal);
  }

  /** Drops the connection and stays away until `connect`. */
  cut() {
    this.#ended?.abort();
    this.#replay = undefined;
    this.#enter("cut");
  }

  stop() {
    this.#ended?.abort();
    this.#enter("idle");
  }

  /** Makes a native EventSource hand over this type too; fetch hands over every type anyway. */
  listenTo(type) {
    if (!this.#source || this.#listened.has(type)) return;
    if (this.#listened.size >= LIMITS.ownTypes + this.query.types.length) return;
    this.#listened.add(type);
    const source = this.#source;
    source.addEventListener(type, (event) => {
      if (source !== this.#source || !(event instanceof MessageEvent)) return;
      this.#take({ id: event.lastEventId, type, data: event.data });
    });
  }

  async #run(signal) {
    while (!signal.aborted) {
      this.#enter("connecting");
      let again = LIMITS.retryMs;
      try {
        await this.#locate(signal);
        if (this.query.native) {
          await this.#openNative(signal);
          return;
        }
        const finished = await this.#readWithFetch(signal);
        if (finished) {
          this.#enter("finished");
          return;
        }
        again = this.retryMs;
      } catch (error) {
        if (signal.aborted) return;
        const problem =
          error instanceof Problem ? error : new Problem("The stream broke off", String(error.message ?? error));
        if (!problem.passes || error instanceof RangeError) {
          this.#enter("failed", { problem });
          return;
        }
        again = problem.retryMs ?? this.retryMs;
        this.#watcher.handleProblem(problem);
      }
      if (signal.aborted) return;
      this.#enter("waiting", { retryMs: again });
      await elapsed(again, signal);
    }
  }

  /**
   * Asks for the newest matching event before connecting: whatever the stream brings up to that one is a replay.
   * It also finds a refusal, which a native EventSource would hide.
   */
  async #locate(signal) {
    this.#replay = { from: this.#resumeId, newest: undefined, ids: [] };
    let answer;
    try {
      answer = await newestOf(this.query, 1, this.lastEventId === "" ? 0 : 1, signal);
    } catch (error) {
      // A hub that is full turns a poll away with an error; an EventSource it lets wait.
      if (signal.aborted || !this.query.native || error.status === undefined || !error.passes) throw error;
      this.#watcher.handleProblem(error);
      this.#replay = undefined;
      return;
    }
    this.#knowNewest(answer.events.at(-1)?.id);
    // Taken before the stream opens, so that a cut before its first event loses nothing either.
    const beginsHere = this.query.last === undefined || answer.events.length === 0;
    if (this.#position === "" && beginsHere) this.#position = answer.lastEventId ?? "";
  }

  /** What the next connection of this page resumes from; empty: it begins as the first one did. */
  get #resumeId() {
    if (this.lastEventId !== "") return this.lastEventId;
    return this.#connects > 0 ? this.#position : "";
  }

  async #readWithFetch(signal) {
    const from = this.#resumeId;
    const headers = { accept: "text/event-stream" };
    if (from !== "") headers["last-event-id"] = from;
    const response = await ask(eventsUrl(this.query, from === "" ? startOf(this.query) : []), { headers, signal });
    if (response.status === 204) return true;
    this.#position = response.headers.get("last-event-id") ?? this.#position;
    this.#opened(from);
    const decoder = new EventDecoder(from);
    const chunks = response.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (;;) {
        const { done, value } = await chunks.read();
        if (done || signal.aborted) return false;
        for (const item of decoder.push(value)) {
          if (item.retryMs === undefined) this.#take(item);
          else this.retryMs = Math.min(Math.max(item.retryMs, LIMITS.retryMinMs), LIMITS.retryMaxMs);
        }
      }
    } catch (error) {
      if (error instanceof RangeError || signal.aborted) throw error;
      return false; // the connection broke; what was complete has been taken
    } finally {
      chunks.cancel().catch(() => {});
    }
  }

  async #openNative(signal) {
    const from = this.#resumeId;
    // A page cannot set a header on an EventSource, so the id goes into the URL; when the browser reconnects by
    // itself it sends the header, which wins.
    const more = from === "" ? startOf(this.query) : [["lastEventId", from]];
    const url = token.text === "" ? eventsUrl(this.query, more) : await ticketUrl(this.query, more, signal);
    if (signal.aborted) return;
    const source = new EventSource(url);
    this.#source = source;
    this.#listened = new Set();
    signal.addEventListener("abort", () => {
      source.close();
      if (this.#source === source) this.#source = undefined;
    });
    // Events of the types "open" and "error" may come from the hub too; those are MessageEvents.
    let opens = 0;
    source.addEventListener("open", (event) => {
      if (event instanceof MessageEvent) return;
      opens += 1;
      this.#opened(this.lastEventId || from);
      // The browser came back by itself, so nobody asked beforehand what is newest.
      if (opens > 1) this.#locate(signal).catch(() => (this.#replay = undefined));
    });
    source.addEventListener("error", (event) => {
      if (event instanceof MessageEvent || signal.aborted) return;
      this.#replay = undefined;
      if (source.readyState !== EventSource.CLOSED) {
        this.#enter("waiting");
        return;
      }
      // The browser does not come back. It was refused, and the hub tells the page why if that asks again, or the
      // ticket has served its time; or all is said.
      const mayGoOn = !this.#isFinished && (this.#isExpired || (token.text !== "" && opens > 0));
      if (mayGoOn) this.#connectLater(signal);
      else this.#enter("finished");
    });
    const types = [...this.query.types, ...CONTROL_TYPES, ...this.#watcher.typesPublished()];
    for (const type of new Set(["message", ...types])) this.listenTo(type);
  }

  async #connectLater(signal) {
    this.#enter("waiting", { retryMs: this.retryMs });
    await elapsed(this.retryMs, signal);
    if (!signal.aborted) this.connect();
  }

  #opened(from) {
    this.#connects += 1;
    this.#isExpired = false;
    this.#enter("open", { from, again: this.#connects > 1 });
  }

  #take(event) {
    if (CONTROL_TYPES.includes(event.type)) {
      this.#isFinished ||= event.type === "tidings.finished";
      this.#isExpired ||= event.type === "tidings.expired";
      this.#watcher.handleControl(event);
      return;
    }
    this.lastEventId = event.id;
    const replay = this.#replay;
    this.#watcher.handleEvent(event, replay !== undefined);
    if (!replay) return;
    replay.ids.push(event.id);
    if (event.id === replay.newest || replay.ids.length >= LIMITS.replayIds) this.#endReplay(replay.ids.length);
  }

  #knowNewest(id) {
    const replay = this.#replay;
    if (!replay) return;
    if (id === undefined || id === replay.from || (replay.from === "" && this.query.last === undefined)) {
      this.#endReplay();
      return;
    }
    replay.newest = id;
    const index = replay.ids.indexOf(id);
    if (index >= 0) this.#endReplay(index + 1);
  }

  #endReplay(count = 0) {
    if (!this.#replay) return;
    const { from } = this.#replay;
    this.#replay = undefined;
    this.#watcher.handleReplayed(count, from);
  }

  #enter(state, details = {}) {
    this.state = state;
    this.#watcher.handleState(state, details);
  }
}

/** Resolves after `ms`, or at once when the signal aborts. */
function elapsed(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

// ---------------------------------------------------------------------------------------------------------
// The list of events, newest first.

class Tape {
  #rows = element("rows");
  #waiting = []; // rows not in the document yet: until the next frame, or until the pause ends
  #frame = 0;
  #paused = false;

  get paused() {
    return this.#paused;
  }

  get waitingCount() {
    return this.#waiting.length;
  }

  /** Events that are shown or waiting, newest first. */
  *events() {
    for (let index = this.#waiting.length - 1; index >= 0; index -= 1) yield this.#waiting[index];
    for (const row of this.#rows.children) if (row.event) yield row.event;
  }

  add(event) {
    this.#waiting.push(event);
    if (this.#waiting.length > LIMITS.rows) this.#waiting.shift();
    this.#draw();
  }

  note(text, kind = "") {
    this.add({ note: text, kind });
  }

  /** Shows anew what has become known about an event. */
  refresh(event) {
    if (event.row) fillRow(event.row, event);
  }

  setPaused(paused) {
    this.#paused = paused;
    this.#draw();
  }

  clear() {
    this.#waiting = [];
    this.#rows.replaceChildren();
    this.#draw();
  }

  #draw() {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.#paused && this.#waiting.length > 0) {
        const fresh = document.createDocumentFragment();
        for (const event of this.#waiting) fresh.prepend(event.note === undefined ? rowOf(event) : noteRowOf(event));
        this.#waiting = [];
        this.#rows.prepend(fresh);
        while (this.#rows.childElementCount > LIMITS.rows) {
          const last = this.#rows.lastElementChild;
          if (last.event) last.event.row = undefined;
          last.remove();
        }
      }
      drawCounts();
    });
  }
}

const COLUMNS = ["time", "id", "type", "topic", "data", "latency"];

function rowOf(event) {
  const row = document.createElement("tr");
  row.setAttribute("role", "row");
  for (const column of COLUMNS) {
    const cell = row.insertCell();
    cell.setAttribute("role", "cell");
    cell.className = column;
  }
  const [time, id, type, , data] = row.cells;
  time.textContent = clock(event.at);
  id.textContent = event.id;
  type.textContent = event.type;
  fillData(data, event);
  row.event = event;
  event.row = row;
  fillRow(row, event);
  return row;
}

/** The parts of a row that may become known after the event arrived. */
function fillRow(row, event) {
  const [, , , topic, , latency] = row.cells;
  topic.textContent = event.topics?.join(", ") ?? "–";
  topic.classList.toggle("unknown", event.topics === undefined);
  if (event.replayed) latency.textContent = "replayed";
  else latency.textContent = event.latencyMs === undefined ? "–" : duration(event.latencyMs);
  latency.classList.toggle("unknown", event.latencyMs === undefined || event.replayed);
}

function fillData(cell, event) {
  const { data } = event;
  const folded = foldedEnd(data);
  const text = document.createElement("span");
  text.textContent = data.slice(0, folded);
  cell.replaceChildren(text);
  if (folded === data.length) {
    cell.append(remainder(event.cutChars));
    return;
  }
  const rest = document.createElement("span");
  const more = document.createElement("button");
  more.type = "button";
  more.className = "link";
  more.textContent = "show all";
  more.addEventListener("click", () => {
    text.textContent = data;
    rest.replaceWith(remainder(event.cutChars));
  });
  rest.append("… ", more);
  cell.append(rest);
}

function remainder(cutChars) {
  const text = document.createElement("span");
  text.className = "unknown";
  if (cutChars > 0) text.textContent = ` … and ${number.format(cutChars)} more characters`;
  return text;
}

function foldedEnd(data) {
  let end = Math.min(data.length, LIMITS.foldedChars);
  for (let line = 0, at = -1; line < LIMITS.foldedLines; line += 1) {
    at = data.indexOf("\n", at + 1);
    if (at < 0 || at >= end) return end;
    if (line === LIMITS.foldedLines - 1) end = at;
  }
  return end;
}

function noteRowOf({ note, kind }) {
  const row = document.createElement("tr");
  row.setAttribute("role", "row");
  row.className = `note ${kind}`.trim();
  const cell = row.insertCell();
  cell.setAttribute("role", "cell");
  cell.colSpan = COLUMNS.length;
  cell.textContent = note;
  return row;
}

function clock(date) {
  const part = (value, width) => String(value).padStart(width, "0");
  const seconds = `${part(date.getSeconds(), 2)}.${part(date.getMilliseconds(), 3)}`;
  return `${part(date.getHours(), 2)}:${part(date.getMinutes(), 2)}:${seconds}`;
}

function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return `${(ms / 1_000).toFixed(1)} s`;
}

// ---------------------------------------------------------------------------------------------------------
// What the page knows of its own publishes.

class OwnPublishes {
  #byId = new Map(); // id to { topics, sentAt }, oldest first
  types = new Set();

  add(id, own) {
    this.#byId.set(id, own);
    if (this.#byId.size > LIMITS.ownIds) this.#byId.delete(this.#byId.keys().next().value);
  }

  get(id) {
    return this.#byId.get(id);
  }
}

// ---------------------------------------------------------------------------------------------------------
// The page: what is on the screen, and what the person and the hub do to it.

const tape = new Tape();
const own = new OwnPublishes();
const counts = { received: 0, replayed: 0, gaps: 0 };
let latenciesMs = [];
let subscription;
let topicLookup = 0;
let shownState = "idle";

const watcher = {
  typesPublished: () => own.types,

  handleState(state, { from, again, retryMs, problem }) {
    const topics = subscription.query.topics.join(", ");
    const way = subscription.query.native ? "EventSource" : "fetch";
    const text = {
      idle: () => "Not subscribed",
      connecting: () => "Connecting",
      open: () => `Open, read with ${way}`,
      waiting: () => `Disconnected; ${retryMs ? `again in ${duration(retryMs)}` : "the browser will reconnect"}`,
      cut: () => "Cut",
      finished: () => "Ended by the hub",
      failed: () => "Refused",
    }[state]();
    const before = shownState;
    shownState = state;
    element("state").dataset.state = state;
    // While it retries, one steady text: a screen reader reads each change.
    if (!(state === "connecting" && before === "waiting")) setText(element("state-text"), text);
    if (state === "open") {
      tape.note(again ? `Connected again${from === "" ? "" : `, Last-Event-ID ${from}`}` : `Subscribed to ${topics}`);
      showProblem("subscribe-problem");
    }
    if (state === "cut") tape.note("Connection cut", "broken");
    if (state === "waiting" && before === "open") tape.note("Connection lost", "broken");
    if (state === "finished") tape.note("The hub ended the stream for good", "broken");
    if (state === "failed") {
      showProblem("subscribe-problem", problem);
      if (problem.asksForToken) askForToken();
    }
    drawActions();
  },

  handleEvent(received, replayed) {
    counts.received += 1;
    const event = {
      id: received.id,
      type: received.type,
      data: received.data.slice(0, LIMITS.shownChars),
      cutChars: Math.max(0, received.data.length - LIMITS.shownChars),
      at: new Date(),
      receivedAt: performance.now(),
      replayed,
      topics: subscription.onlyTopic === undefined ? undefined : [subscription.onlyTopic],
    };
    const mine = own.get(event.id);
    if (mine) matchOwn(event, mine);
    tape.add(event);
    if (event.topics === undefined) lookUpTopics();
  },

  handleControl({ type, data }) {
    if (type === "tidings.shutdown") {
      tape.note("The hub is shutting down", "broken");
      return;
    }
    if (type === "tidings.finished") {
      tape.note("The last event of all topics has been received");
      return;
    }
    if (type === "tidings.expired") {
      const why = { revoked: "The token was withdrawn", closed: "An operator closed the stream" };
      tape.note(why[reasonOf(data)] ?? "The right to read this stream has expired", "broken");
      return;
    }
    counts.gaps += 1;
    let { requested, oldest, reason } = {};
    try {
      ({ requested, oldest, reason } = JSON.parse(data));
    } catch {
      reason = data;
    }
    const because = {
      trimmed: "older events are no longer kept",
      "unknown-epoch": "the id is from an earlier life of the log",
      invalid: "the id is not one of this hub",
    }[reason];
    const what = type === "tidings.lagged" ? "Fell behind what is kept" : `Gap after ${requested ?? "the last id"}`;
    const oldestText = oldest ? `; the oldest kept is ${oldest}` : "";
    tape.note(`${what}: ${because ?? reason ?? "events are missing"}${oldestText}`, "gap");
  },

  handleReplayed(count, from) {
    counts.replayed += count;
    if (from !== "" && count === 0) tape.note("Nothing was missed");
    if (count > 0) {
      const events = count === 1 ? "1 event" : `${number.format(count)} events`;
      tape.note(from === "" ? `${events} from before` : `${events} replayed, now live`, "replayed");
    }
    drawCountsSoon();
  },

  handleProblem(problem) {
    showProblem("subscribe-problem", problem);
  },
};

function reasonOf(data) {
  try {
    return JSON.parse(data).reason;
  } catch {
    return undefined;
  }
}

function matchOwn(event, mine) {
  event.topics ??= mine.topics;
  if (event.replayed || event.latencyMs !== undefined) return;
  event.latencyMs = event.receivedAt - mine.sentAt;
  latenciesMs.push(event.latencyMs);
  if (latenciesMs.length > LIMITS.latencies) latenciesMs.shift();
}

/** Asks the hub, in a JSON poll and at most once a second, for topics that the stream did not tell. */
function lookUpTopics() {
  if (topicLookup !== 0) return;
  topicLookup = setTimeout(async () => {
    topicLookup = 0;
    const wanted = new Map();
    for (const event of tape.events()) {
      if (wanted.size === LIMITS.topicLookup) break;
      if (event.note !== undefined || event.topics !== undefined || event.lookedUp) continue;
      event.lookedUp = true;
      wanted.set(event.id, event);
    }
    if (wanted.size === 0) return;
    const answer = await newestOf(subscription.query, LIMITS.topicLookup, 1).catch(() => ({ events: [] }));
    for (const { id, topics } of answer.events) {
      const event = wanted.get(id);
      if (!event) continue;
      event.topics = topics;
      tape.refresh(event);
    }
  }, LIMITS.topicLookupMs);
}

// Subscribing.

function subscribe(query) {
  subscription?.stop();
  showProblem("subscribe-problem");
  subscription = new Subscription(query, watcher);
  subscription.connect();
}

/** The subscription that the form describes. */
function formQuery() {
  const filled = [...document.querySelectorAll("#topics input")].map((input) => input.value.trim());
  const topics = [...new Set(filled.filter((topic) => topic !== ""))];
  const types = element("types").value.split(",").map((type) => type.trim()).filter((type) => type !== "");
  const start = element("start").value;
  const last = { next: undefined, earliest: "earliest", last: element("last").value }[start];
  const reader = element("reader").value;
  return { topics, types, last, reader, native: reader === "eventsource" || (reader === "auto" && types.length > 0) };
}

function addTopic(value = "") {
  const rows = element("topics");
  const row = document.createElement("div");
  row.className = "topic-row";
  const input = document.createElement("input");
  input.value = value;
  input.required = true;
  input.spellcheck = false;
  input.autocapitalize = "off";
  input.setAttribute("aria-label", `Topic ${rows.childElementCount + 1}`);
  input.setAttribute("aria-describedby", "topics-hint");
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "quiet";
  remove.textContent = "Remove";
  remove.addEventListener("click", () => {
    const neighbour = row.previousElementSibling ?? row.nextElementSibling;
    row.remove();
    neighbour.querySelector("input").focus();
    nameTopics();
    drawForm();
  });
  row.append(input, remove);
  rows.append(row);
  nameTopics();
  return input;
}

function nameTopics() {
  const rows = [...element("topics").children];
  rows.forEach((row, index) => {
    const [input, remove] = row.children;
    const name = rows.length === 1 ? "Topic" : `Topic ${index + 1}`;
    input.setAttribute("aria-label", name);
    remove.setAttribute("aria-label", `Remove ${name.toLowerCase()}`);
    remove.hidden = rows.length === 1;
  });
}

/** Keeps the subscription in the address, so that a reload or a copied link shows the same. */
function writeAddress({ topics, types, last, reader }) {
  const hash = new URLSearchParams();
  for (const topic of topics) hash.append("topic", topic);
  for (const type of types) hash.append("event", type);
  if (last !== undefined) hash.set("last", last);
  if (reader !== "auto") hash.set("reader", reader);
  history.replaceState(null, "", `#${hash}`);
}

/** Fills the form from the address; false when the address names no topic. */
function readAddress() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const topics = hash.getAll("topic").filter((topic) => topic !== "");
  for (const topic of topics.length > 0 ? topics : ["demo"]) addTopic(topic);
  if (topics.length === 0) return false;
  element("types").value = hash.getAll("event").join(", ");
  const last = hash.get("last");
  element("start").value = last === null ? "next" : last === "earliest" ? "earliest" : "last";
  if (/^[1-9][0-9]{0,6}$/.test(last ?? "")) element("last").value = last;
  if (["eventsource", "fetch"].includes(hash.get("reader"))) element("reader").value = hash.get("reader");
  return true;
}

// Publishing.

/** The event that the form describes; throws a Problem when its data is not the JSON it is said to be. */
function formEvent() {
  const event = { topic: element("topic").value.trim(), type: element("type").value.trim(), dataJson: "" };
  const data = element("data").value;
  if (!sendsJson()) return { ...event, dataJson: JSON.stringify(data) };
  if (data.trim() === "") return event;
  try {
    JSON.parse(data);
  } catch (error) {
    throw new Problem("The data is not JSON.", `${error.message}. Correct it, or send it as text.`);
  }
  return { ...event, dataJson: data.trim() };
}

function sendsJson() {
  return document.querySelector("input[name=format]:checked").value === "json";
}

async function publishAndRemember(event) {
  const type = event.type || "message";
  if (own.types.size < LIMITS.ownTypes) own.types.add(type);
  subscription?.listenTo(type);
  const mine = { topics: [event.topic], sentAt: performance.now() };
  const id = await publish(event);
  const answeredAt = performance.now();
  own.add(id, mine);
  // The stream may have been quicker than the answer.
  for (const shown of tape.events()) {
    if (shown.id !== id) continue;
    matchOwn(shown, mine);
    tape.refresh(shown);
    drawCountsSoon();
    break;
  }
  return { id, ms: answeredAt - mine.sentAt };
}

async function publishForm() {
  showProblem("publish-problem");
  try {
    const { id, ms } = await publishAndRemember(formEvent());
    setText(element("publish-outcome"), `Published ${id} in ${duration(ms)}`);
  } catch (error) {
    setText(element("publish-outcome"), "");
    showProblem("publish-problem", error);
    if (error.asksForToken) askForToken();
  }
}

const demo = {
  timer: 0,

  start() {
    let sent = 0;
    let inFlight = 0;
    const total = LIMITS.demoMs / LIMITS.demoEveryMs;
    const topic = element("topic").value.trim() || "demo";
    const type = element("type").value.trim();
    showProblem("publish-problem");
    setText(element("publish-outcome"), `Publishing to ${topic}`);
    this.timer = setInterval(async () => {
      if (inFlight >= LIMITS.demoInFlight) return;
      sent += 1;
      inFlight += 1;
      if (sent >= total) this.stop();
      this.draw(Math.ceil(((total - sent) * LIMITS.demoEveryMs) / 1_000));
      try {
        await publishAndRemember({ topic, type, dataJson: `{"n":${sent},"of":${total}}` });
      } catch (error) {
        this.stop();
        showProblem("publish-problem", error);
        if (error.asksForToken) askForToken();
      } finally {
        inFlight -= 1;
      }
    }, LIMITS.demoEveryMs);
    this.draw(LIMITS.demoMs / 1_000);
  },

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    setText(element("publish-outcome"), "");
    this.draw();
  },

  draw(leftSeconds) {
    setText(element("demo"), this.timer === 0 ? "Publish 10 a second" : `Stop (${leftSeconds} s left)`);
  },
};

// The hub's own figures.

const figures = {
  samples: [], // { at, published, delivered, subscribers }, oldest first
  ended: undefined, // AbortController of what reads them
  before: undefined, // the figures that the next ones are compared with

  async connect() {
    this.disconnect();
    const { signal } = (this.ended = new AbortController());
    // Not with an EventSource, which can send no token.
    while (!signal.aborted) {
      let again = LIMITS.retryMs;
      try {
        again = await this.read(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && !error.passes) {
          setText(element("hub-about"), error.asksForToken ? "figures are for operators" : "figures unavailable");
          return;
        }
        again = error.retryMs ?? again;
      }
      if (signal.aborted) return;
      setText(element("hub-about"), "out of reach");
      this.before = undefined;
      await elapsed(again, signal);
    }
  },

  /** Reads figures until the hub ends their stream; resolves to when to come back. */
  async read(signal) {
    const response = await ask(new URL("stats", document.baseURI), { signal });
    const decoder = new EventDecoder("");
    let { retryMs } = LIMITS;
    for await (const text of textsOf(response.body)) {
      for (const item of decoder.push(text)) {
        if (item.type === "stats") this.take(JSON.parse(item.data));
        else retryMs = item.retryMs ?? retryMs;
      }
    }
    return retryMs;
  },

  disconnect() {
    this.ended?.abort();
    this.before = undefined;
  },

  take(stats) {
    const { before } = this;
    this.before = stats;
    setText(element("hub-about"), `${stats.version}, up ${span(stats.uptimeMs)}`);
    const totals = [
      `${number.format(stats.published)} published`,
      `${number.format(stats.delivered)} delivered`,
      `${bytes(stats.bytes)} sent`,
    ];
    if (stats.turnedAway > 0) totals.push(`${number.format(stats.turnedAway)} turned away`);
    setText(element("hub-totals"), totals.join("  ·  "));
    // Counters that went back belong to a hub that began anew.
    const seconds = before ? (stats.uptimeMs - before.uptimeMs) / 1_000 : 0;
    if (seconds <= 0) return;
    const rate = (name) => (stats[name] - before[name]) / seconds;
    const at = performance.now();
    const { subscribers } = stats;
    this.samples.push({ at, published: rate("published"), delivered: rate("delivered"), subscribers });
    while (at - this.samples[0].at > LIMITS.figureMs) this.samples.shift();
    this.draw();
  },

  draw() {
    for (const name of ["published", "delivered", "subscribers"]) {
      drawFigure(element(`figure-${name}`), this.samples.map((sample) => ({ at: sample.at, value: sample[name] })));
    }
  },
};

const SVG = "http://www.w3.org/2000/svg";

/** One small chart: a line over the last minute, its newest value, and its scale. */
function drawFigure(figure, samples) {
  const svg = figure.querySelector("svg");
  const { width, height } = svg.getBoundingClientRect();
  if (samples.length === 0 || width === 0) return;
  const newest = samples.at(-1);
  const top = roundUp(Math.max(...samples.map(({ value }) => value)));
  setText(figure.querySelector("output"), number.format(Math.round(newest.value)));
  setText(figure.querySelector(".peak"), number.format(top));
  if (svg.childElementCount === 0) {
    const shapes = [["line", "grid"], ["path", "area"], ["path", "curve"], ["circle", "now"]];
    for (const [name, style] of shapes) {
      const shape = document.createElementNS(SVG, name);
      shape.setAttribute("class", style);
      svg.append(shape);
    }
  }
  const right = width - 4;
  const floor = height - 1.5;
  const x = ({ at }) => (right * (1 - (newest.at - at) / LIMITS.figureMs)).toFixed(1);
  const y = ({ value }) => (floor - (value / top) * (floor - 4)).toFixed(1);
  let line = "";
  let filled = "";
  for (const [first, ...others] of unbroken(samples)) {
    const part = [first, ...others].map((sample) => `${x(sample)} ${y(sample)}`).join("L");
    line += `M${part}`;
    filled += `M${part}L${x(others.at(-1) ?? first)} ${floor}L${x(first)} ${floor}Z`;
  }
  const [grid, area, curve, now] = svg.children;
  setAttributes(svg, { viewBox: `0 0 ${width} ${height}` });
  setAttributes(grid, { x1: 0, x2: width, y1: floor + 1, y2: floor + 1 });
  setAttributes(curve, { d: line });
  setAttributes(area, { d: filled });
  setAttributes(now, { cx: x(newest), cy: y(newest), r: 2.5 });
}

/** The samples in runs that no hole interrupts. */
function unbroken(samples) {
  const runs = [];
  let before;
  for (const sample of samples) {
    if (before === undefined || sample.at - before.at > LIMITS.figureHoleMs) runs.push([]);
    runs.at(-1).push(sample);
    before = sample;
  }
  return runs;
}

function setAttributes(shape, attributes) {
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
}

/** The next of 5, 10, 20, 50, 100, … that is not below the value. */
function roundUp(value) {
  for (let unit = 1; ; unit *= 10) {
    for (const step of [1, 2, 5]) if (step * unit >= Math.max(value, 5)) return step * unit;
  }
}

function span(ms) {
  const seconds = Math.floor(ms / 1_000);
  const minutes = Math.floor(seconds / 60) % 60;
  const hours = Math.floor(seconds / 3_600) % 24;
  const days = Math.floor(seconds / 86_400);
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

// The same as commands.

function drawCommands() {
  const query = formQuery();
  const bearer = token.text === "" ? "" : '-H "authorization: Bearer $TOKEN" ';
  setText(element("curl-subscribe"), `curl -N ${bearer}${quoted(eventsUrl(query, startOf(query)).href)}`);
  const topic = element("topic").value.trim();
  const type = element("type").value.trim();
  const data = element("data").value;
  const url = new URL("events", document.baseURI).href;
  let body;
  if (sendsJson()) {
    body = `-H 'content-type: application/json' -d ${quoted(publishBody({ topic, type, dataJson: data.trim() }))}`;
  } else {
    body = [["topic", topic], ["event", type], ["data", data]]
      .filter(([name, value]) => name === "topic" || value !== "")
      .map(([name, value]) => `${/^[\w./:-]*$/.test(value) ? "-d" : "--data-urlencode"} ${quoted(`${name}=${value}`)}`)
      .join(" ");
  }
  setText(element("curl-publish"), `curl ${bearer}${body} ${url}`);
}

/** One word of a shell command. */
function quoted(text) {
  return /^[\w./:=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

async function copyCommand(button) {
  const source = element(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // No permission, or not a secure origin: leave it selected for the keyboard.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  button.addEventListener("blur", () => (button.textContent = "Copy"), { once: true });
}

// The token.

function useToken(pasted) {
  showProblem("token-problem");
  try {
    token.use(pasted);
  } catch (error) {
    showProblem("token-problem", error);
    return;
  }
  element("token").value = "";
  drawToken();
  drawCommands();
  figures.connect();
  for (const id of ["subscribe-problem", "publish-problem"]) showProblem(id);
  // A stream goes on with the rights of the new token.
  if (subscription && !["idle", "cut", "finished"].includes(subscription.state)) subscription.connect();
}

/** Says that the hub wants a token, or another one, where it can be given. */
function askForToken() {
  element("access").open = true;
  const detail = token.text === "" ? "Paste one here." : "Paste another one here.";
  showProblem("token-problem", { title: "The hub wants a token with the right to do this.", detail });
}

function drawToken() {
  const has = token.text !== "";
  setText(element("token-state"), has ? "in use" : "none");
  element("token-forget").hidden = !has;
  element("token").placeholder = has ? "another one" : "eyJ…";
}

// Drawing.

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function showProblem(id, problem) {
  const target = element(id);
  target.replaceChildren();
  if (!problem) return;
  const title = document.createElement("strong");
  title.textContent = problem.title ?? "Something went wrong in this page";
  target.append(title, ` ${problem.detail ?? problem.message}`);
}

function drawForm() {
  const query = formQuery();
  element("last").hidden = element("start").value !== "last";
  element("last").disabled = element("last").hidden;
  const hint = {
    auto: query.native
      ? "Reads with the browser’s own EventSource."
      : "Reads with fetch: an EventSource hands over only the types it is told to listen for.",
    eventsource:
      query.types.length > 0
        ? "Reads with the browser’s own EventSource."
        : "Shows the types message and those published here; an EventSource must be told the others by name.",
    fetch: "Reads the stream with fetch; every type is shown.",
  }[query.reader];
  setText(element("reader-hint"), hint);
  drawCommands();
}

function drawActions() {
  const { state } = subscription;
  const on = state !== "idle" && state !== "failed";
  element("subscribe-stop").hidden = !on;
  element("cut").disabled = !on;
  setText(element("cut"), state === "cut" || state === "finished" ? "Reconnect" : "Cut the connection");
  element("empty-idle").hidden = on;
  element("empty-listening").hidden = !on;
  setText(element("empty-topics"), subscription.query.topics.join(", "));
  setText(element("subscribe-go"), on ? "Subscribe anew" : "Subscribe");
}

function drawCounts() {
  setText(element("fact-received"), number.format(counts.received));
  setText(element("fact-replayed"), number.format(counts.replayed));
  setText(element("fact-gaps"), number.format(counts.gaps));
  setText(element("fact-id"), subscription?.lastEventId || "–");
  const sorted = [...latenciesMs].sort((a, b) => a - b);
  setText(element("fact-latency"), sorted.length === 0 ? "–" : duration(sorted[Math.floor(sorted.length / 2)]));
  const waiting = tape.waitingCount;
  setText(element("pause"), !tape.paused ? "Pause" : waiting === 0 ? "Continue" : `Continue (${waiting} waiting)`);
  element("pause").setAttribute("aria-pressed", String(tape.paused));
  const hasEvents = element("rows").querySelector("tr:not(.note)") !== null;
  element("empty").hidden = hasEvents;
}

let countsDrawn = 0;
function drawCountsSoon() {
  countsDrawn ||= requestAnimationFrame(() => {
    countsDrawn = 0;
    drawCounts();
  });
}

// Wiring.

const startsSubscribed = readAddress();
drawForm();
drawCounts();
drawToken();
figures.connect();
// Browsers give a host six connections over HTTP/1.1, all tabs together: a hidden tab keeps one, not two.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) figures.disconnect();
  else figures.connect();
});
new ResizeObserver(() => figures.draw()).observe(document.querySelector(".figures"));

document.addEventListener("input", drawForm);
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(element("token").value);
});
element("token-forget").addEventListener("click", () => {
  useToken("");
  element("token").focus();
});
element("topic-add").addEventListener("click", () => {
  addTopic().focus();
  drawForm();
});
element("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = formQuery();
  if (query.topics.length === 0) return;
  writeAddress(query);
  subscribe(query);
});
element("subscribe-stop").addEventListener("click", () => {
  subscription.stop();
  history.replaceState(null, "", location.pathname + location.search);
  element("subscribe-go").focus();
});
element("empty-subscribe").addEventListener("click", () => element("subscribe").requestSubmit());
element("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  publishForm();
});
element("data").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("publish").requestSubmit();
});
element("demo").addEventListener("click", () => (demo.timer === 0 ? demo.start() : demo.stop()));
element("cut").addEventListener("click", () => {
  if (["cut", "finished"].includes(subscription.state)) subscription.connect();
  else subscription.cut();
});
element("pause").addEventListener("click", () => tape.setPaused(!tape.paused));
element("clear").addEventListener("click", () => {
  Object.assign(counts, { received: 0, replayed: 0, gaps: 0 });
  latenciesMs = [];
  tape.clear();
});
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copyCommand(button));
}
if (startsSubscribed) subscribe(formQuery());
