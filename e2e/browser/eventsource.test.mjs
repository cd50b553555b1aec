// The browser's own EventSource against the hub, without a library in between.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { launch, LIMIT_MS, listen, open, seenUntil } from "./chromium.mjs";
import { CuttingProxy } from "./cutting-proxy.mjs";
import { Hub } from "./hub.mjs";

// Any document of the hub's origin will do to run an EventSource from, though it says that it is to load nothing.
const BARE = "/health/live";
const WINDOW = { bypassCSP: true };

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Runs `body` with a hub, a proxy before it, and a page whose origin is the proxy. */
async function withHub(options, body) {
  const hub = await Hub.start({ options });
  const proxy = await CuttingProxy.start(hub.port);
  const { page, close } = await open(browser, proxy.url + BARE, WINDOW);
  try {
    await body({ hub, proxy, page });
  } finally {
    await close();
    await proxy.stop();
    await hub.stop();
  }
}

test("named events and data of many lines arrive with their ids", async () => {
  await withHub([], async ({ hub, page }) => {
    await listen(page, "/events?topic=demo", ["paid"]);
    await seenUntil(page, (seen) => seen.opens === 1);
    const cases = [
      { sent: { data: "plain" }, type: "message", data: "plain" },
      { sent: { event: "paid", data: { status: "shipped" } }, type: "paid", data: '{"status":"shipped"}' },
      { sent: { data: "one\ntwo\r\nthree\rfour" }, type: "message", data: "one\ntwo\nthree\nfour" },
      { sent: { data: "\n" }, type: "message", data: "\n" },
      { sent: { data: "" }, type: "message", data: "" },
      { sent: { data: " leading and trailing " }, type: "message", data: " leading and trailing " },
      { sent: { data: "data: forged\n\nid: forged" }, type: "message", data: "data: forged\n\nid: forged" },
      { sent: { data: "ünïcode \u2028 𝄞 \u0000" }, type: "message", data: "ünïcode \u2028 𝄞 \u0000" },
      { sent: { event: "paid", data: "x".repeat(300_000) }, type: "paid", data: "x".repeat(300_000) },
    ];
    const ids = await hub.publishAll(cases.map(({ sent }) => ({ topic: "demo", ...sent })));
    const seen = await seenUntil(page, (seen, count) => seen.events.length >= count, cases.length);
    assert.deepEqual(
      seen.events,
      cases.map(({ type, data }, index) => ({ type, data, id: ids[index] })),
    );
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.match(id, /^[A-Za-z0-9._~-]{1,128}$/);
  });
});

test("it receives every event once and in order while its connection is cut again and again", async () => {
  await withHub([], async ({ hub, proxy, page }) => {
    await listen(page, "/events?topic=demo&last=5");
    await seenUntil(page, (seen) => seen.opens === 1);

    const ids = [];
    const publishing = new AbortController();
    const published = (async () => {
      while (!publishing.signal.aborted) {
        ids.push(await hub.publish({ topic: "demo", data: `event ${ids.length}` }));
        // Others are published too; they take positions of their own and must leave no trace.
        if (ids.length % 7 === 0) await hub.publish({ topic: "elsewhere", data: "not for this stream" });
      }
    })();

    const cuts = ["cut", "inside", "cut", "inside", "cut", "cut"];
    for (const [index, how] of cuts.entries()) {
      const { length } = (await seenUntil(page, () => true)).events;
      await seenUntil(page, (seen, count) => seen.events.length >= count, length + 20);
      const again = once(proxy, "request", { signal: AbortSignal.timeout(LIMIT_MS) });
      if (how === "cut") proxy.cut();
      else await proxy.cutInsideNextEvent();
      await again;
      await seenUntil(page, (seen, count) => seen.opens >= count, index + 2);
    }
    publishing.abort();
    await published;

    const last = ids.at(-1);
    const seen = await seenUntil(page, (seen, last) => seen.lastId === last, last);
    assert.deepEqual(seen.events.map(({ id }) => id), ids);
    assert.deepEqual(seen.events.map(({ data }) => data), ids.map((_, index) => `event ${index}`));
    assert.equal(seen.lost.length, cuts.length);
    const resumed = proxy.streamsOf("topic=demo").map(({ headers }) => headers["last-event-id"]);
    assert.deepEqual(resumed, [undefined, ...seen.lost.map(({ lastId }) => lastId)]);
  });
});

test("events published while it is away are replayed", async () => {
  await withHub([], async ({ hub, proxy, page }) => {
    await listen(page, "/events?topic=orders/{id}&event=paid", ["paid"]);
    await seenUntil(page, (seen) => seen.opens === 1);
    const first = await hub.publish({ topic: "orders/1", event: "paid", data: 1 });
    await seenUntil(page, (seen) => seen.events.length === 1);
    proxy.refuse();
    await seenUntil(page, (seen) => seen.lost.length >= 1);
    const missed = await hub.publishAll([
      { topic: "orders/2", event: "paid", data: 2 },
      { topic: "orders/2", event: "shipped", data: "of another type" },
      { topic: "invoices/2", event: "paid", data: "of another topic" },
      { topic: "orders/3", event: "paid", data: 3 },
    ]);
    proxy.accept();
    await seenUntil(page, (seen) => seen.events.length >= 3);
    const live = await hub.publish({ topic: "orders/4", event: "paid", data: 4 });
    const seen = await seenUntil(page, (seen) => seen.events.length >= 4);
    assert.deepEqual(seen.events, [
      { type: "paid", data: "1", id: first },
      { type: "paid", data: "2", id: missed[0] },
      { type: "paid", data: "3", id: missed[3] },
      { type: "paid", data: "4", id: live },
    ]);
  });
});

test("what was missed and is no longer kept is announced before what is kept", async () => {
  await withHub(["--log-events-max", "10"], async ({ hub, proxy, page }) => {
    await listen(page, "/events?topic=demo");
    await seenUntil(page, (seen) => seen.opens === 1);
    const first = await hub.publish({ topic: "demo", data: "first" });
    await seenUntil(page, (seen) => seen.events.length === 1);
    proxy.refuse();
    await seenUntil(page, (seen) => seen.lost.length >= 1);
    const ids = await hub.publishAll(Array.from({ length: 30 }, (_, n) => ({ topic: "demo", data: n })));
    proxy.accept();
    const seen = await seenUntil(page, (seen, last) => seen.lastId === last, ids.at(-1));
    const [, gap, ...kept] = seen.events;
    assert.equal(gap.type, "tidings.gap");
    assert.equal(gap.id, first, "a control event carries no id of its own");
    assert.deepEqual(JSON.parse(gap.data), { requested: first, oldest: ids[20], reason: "trimmed" });
    assert.deepEqual(kept.map(({ id }) => id), ids.slice(20));
  });
});

test("a hub that was restarted says that the id is of another life of the log", async () => {
  let hub = await Hub.start();
  const { page, close } = await open(browser, hub.url + BARE, WINDOW);
  try {
    await listen(page, "/events?topic=demo");
    await seenUntil(page, (seen) => seen.opens === 1);
    const before = await hub.publish({ topic: "demo", data: "before" });
    await seenUntil(page, (seen) => seen.events.length === 1);
    await hub.stop();
    hub = await Hub.start({ port: hub.port });
    const afterwards = await hub.publish({ topic: "demo", data: "after" });
    const seen = await seenUntil(page, (seen, id) => seen.lastId === id, afterwards);
    const [, ...others] = seen.events.filter(({ type }) => type !== "tidings.shutdown");
    const [gap, event] = others;
    assert.equal(others.length, 2);
    assert.equal(gap.type, "tidings.gap");
    const { requested, reason } = JSON.parse(gap.data);
    assert.deepEqual({ requested, reason }, { requested: before, reason: "unknown-epoch" });
    assert.deepEqual(event, { type: "message", data: "after", id: afterwards });
    for (const { readyState } of seen.lost) assert.equal(readyState, 0, "it never gave up");
  } finally {
    await close();
    await hub.stop();
  }
});

test("a hub that shuts down says so and ends the stream cleanly", async () => {
  const hub = await Hub.start();
  const { page, close } = await open(browser, hub.url + BARE, WINDOW);
  try {
    await listen(page, "/events?topic=demo");
    await seenUntil(page, (seen) => seen.opens === 1);
    const stopped = hub.stop();
    const seen = await seenUntil(page, (seen) => seen.lost.length >= 1);
    await stopped;
    assert.deepEqual(seen.events.map(({ type }) => type), ["tidings.shutdown"]);
    assert.equal(seen.lost[0].readyState, 0);
  } finally {
    await close();
    await hub.stop();
  }
});

test("after the last event of its topic it comes back once and then stays away", async () => {
  await withHub([], async ({ hub, proxy, page }) => {
    await listen(page, "/events?topic=jobs/1", ["progress", "complete"]);
    await seenUntil(page, (seen) => seen.opens === 1);
    const first = await hub.publish({ topic: "jobs/1", event: "progress", data: 50 });
    await seenUntil(page, (seen) => seen.events.length === 1);
    // The last event comes while it is away.
    proxy.refuse();
    await seenUntil(page, (seen) => seen.lost.length >= 1);
    const last = await hub.publish({ topic: "jobs/1", event: "complete", data: "done", final: true });
    proxy.accept();
    const closed = await seenUntil(page, (seen) => seen.lost.at(-1).readyState === 2);
    assert.deepEqual(closed.events, [
      { type: "progress", data: "50", id: first },
      { type: "complete", data: "done", id: last },
      { type: "tidings.finished", data: '{"topics":["jobs/1"]}', id: last },
    ]);
    const resumed = proxy.streamsOf("topic=jobs/1").map(({ headers }) => headers["last-event-id"]);
    assert.deepEqual(resumed.slice(-2), [first, last]);
  });
});

test("over the connection limit it keeps trying and gets in when a place is free", async () => {
  await withHub(["--max-connections", "2"], async ({ hub, page }) => {
    const places = [new AbortController(), new AbortController()];
    for (const place of places) {
      const response = await fetch(`${hub.url}/events?topic=demo`, { signal: place.signal });
      assert.equal(response.status, 200);
      await response.body.getReader().read(); // it has its place: the stream has begun
    }
    await listen(page, "/events?topic=demo&last=1");
    const turnedAway = await seenUntil(page, (seen) => seen.lost.length >= 1);
    assert.deepEqual(turnedAway.events, []);
    const id = await hub.publish({ topic: "demo", data: "publishing goes on" });

    places[0].abort();
    const seen = await seenUntil(page, (seen) => seen.events.length >= 1, undefined, 2 * LIMIT_MS);
    assert.deepEqual(seen.events, [{ type: "message", data: "publishing goes on", id }]);
    for (const { readyState } of seen.lost) assert.equal(readyState, 0, "CONNECTING, not CLOSED");
    places[1].abort();
  });
});
