// The page of the hub, driven as a person would: by what is on the screen, its labels and its keys.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { launch, LIMIT_MS, open } from "./chromium.mjs";
import { CuttingProxy } from "./cutting-proxy.mjs";
import { Hub, mint } from "./hub.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/**
 * Runs `body` with a hub, a proxy before it, and the hub's page opened through the proxy. What the page must not do
 * fails the test, except the faults that `expected` matches.
 */
async function withPage(body, { options = [], window = {}, path = "/", expected } = {}) {
  const hub = await Hub.start({ options });
  const proxy = await CuttingProxy.start(hub.port);
  const { page, faults, close } = await open(browser, proxy.url + path, window);
  try {
    await body({ hub, proxy, page });
    assert.deepEqual(faults.filter((fault) => !expected?.test(fault)), []);
  } finally {
    await close();
    await proxy.stop();
    await hub.stop();
  }
}

const button = (page, name) => page.getByRole("button", { name, exact: true });

async function subscribe(page, { topic, types, start, reader } = {}) {
  if (topic) await page.getByLabel("Topic", { exact: true }).first().fill(topic);
  if (types) await page.getByLabel("Event types").fill(types);
  if (start) await page.getByLabel("Begin with").selectOption(start);
  if (reader) await page.getByLabel("Read with").selectOption(reader);
  await page.locator("#subscribe").getByRole("button", { name: /^Subscribe/ }).click();
  await page.getByText(/^Open, read with/).waitFor();
}

async function publish(page, { topic, type, text }) {
  const form = page.locator("#publish");
  if (topic !== undefined) await form.getByLabel("Topic").fill(topic);
  if (type !== undefined) await form.getByLabel("Event type").fill(type);
  if (text !== undefined) {
    await form.getByText("Text", { exact: true }).click();
    await form.getByLabel("Data").fill(text);
  }
  await button(page, "Publish").click();
}

/** The row of the event whose data is exactly this, as its cells by column. */
async function rowOf(page, data) {
  const cell = page.locator("td.data", { hasText: data }).first();
  await cell.waitFor();
  return cell.evaluate(({ parentElement: row }) => {
    const named = [...row.cells].map(({ className, textContent }) => [className.split(" ")[0], textContent]);
    return Object.fromEntries(named);
  });
}

/** The data of the rows and the texts of the notes, oldest first. */
function tapeOf(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("#rows tr")]
      .reverse()
      .map((row) => (row.classList.contains("note") ? `(${row.textContent})` : row.querySelector(".data").textContent)),
  );
}

function factIs(page, name, text) {
  return page.waitForFunction(
    ([name, text]) => {
      const terms = [...document.querySelectorAll(".facts dt")];
      return terms.find((term) => term.textContent === name).nextElementSibling.textContent === text;
    },
    [name, text],
  );
}

test("a first visit teaches the first step, and the first event shows its id and latency", async () => {
  await withPage(async ({ page }) => {
    await page.getByText("Nothing to watch yet.").waitFor();
    await page.locator("#empty").getByRole("button", { name: "Subscribe" }).click();
    await page.getByText("Listening to").waitFor();
    await button(page, "Publish").click();
    const outcome = page.getByText(/^Published \S+ in /);
    const [, id] = /^Published (\S+) in [0-9.]+ m?s$/.exec(await outcome.textContent());
    await page.getByRole("cell", { name: /^[0-9.]+ ms$/ }).waitFor();
    const row = await rowOf(page, '{"hello":"world"}');
    assert.match(row.time, /^\d\d:\d\d:\d\d\.\d{3}$/);
    assert.match(row.latency, /^[0-9.]+ ms$/);
    assert.deepEqual({ id: row.id, type: row.type, topic: row.topic }, { id, type: "message", topic: "demo" });
    assert.equal(await page.getByText("Nothing to watch yet.").isVisible(), false);
    await factIs(page, "Received", "1");
    await factIs(page, "Last-Event-ID", id);
  });
});

test("an event published elsewhere shows every type but no latency", async () => {
  await withPage(async ({ hub, page }) => {
    await subscribe(page);
    const id = await hub.publish({ topic: "demo", event: "whatever-type", data: "from elsewhere" });
    const row = await rowOf(page, "from elsewhere");
    assert.deepEqual(
      { id: row.id, type: row.type, topic: row.topic, latency: row.latency },
      { id, type: "whatever-type", topic: "demo", latency: "–" },
    );
  });
});

for (const reader of ["fetch", "eventsource"]) {
  test(`read with ${reader}: cut and reconnect replays what was missed`, async () => {
    await withPage(async ({ hub, proxy, page }) => {
      await subscribe(page, { types: "tick", start: "next", reader });
      const last = await hub.publish({ topic: "demo", event: "tick", data: "before" });
      await rowOf(page, "before");
      await button(page, "Cut the connection").click();
      await page.getByText("Cut", { exact: true }).waitFor();
      await hub.publishAll(["one", "two", "three"].map((data) => ({ topic: "demo", event: "tick", data })));
      await button(page, "Reconnect").click();
      await page.getByText("3 events replayed, now live").waitFor();
      await hub.publish({ topic: "demo", event: "tick", data: "after" });
      await rowOf(page, "after");
      assert.deepEqual(await tapeOf(page), [
        "(Subscribed to demo)",
        "before",
        "(Connection cut)",
        `(Connected again, Last-Event-ID ${last})`,
        "one",
        "two",
        "three",
        "(3 events replayed, now live)",
        "after",
      ]);
      assert.equal((await rowOf(page, "two")).latency, "replayed");
      await factIs(page, "Received", "5");
      await factIs(page, "Replayed", "3");
      const { line, headers } = proxy.streamsOf("/events?").findLast(({ line }) => !line.includes("mode=poll"));
      const { searchParams } = new URL(line.split(" ")[1], proxy.url);
      assert.equal(reader === "fetch" ? headers["last-event-id"] : searchParams.get("lastEventId"), last);
    });
  });

  test(`read with ${reader}: a connection that breaks resumes by itself and loses nothing`, async () => {
    await withPage(
      async ({ hub, proxy, page }) => {
        await subscribe(page, { start: "next", reader });
        await hub.publish({ topic: "demo", data: "before" });
        await rowOf(page, "before");
        proxy.refuse();
        await page.getByText("Connection lost").waitFor();
        await hub.publishAll(["one", "two"].map((data) => ({ topic: "demo", data })));
        proxy.accept();
        await page.getByText("2 events replayed, now live").waitFor();
        await hub.publish({ topic: "demo", data: "after" });
        await rowOf(page, "after");
        const events = (await tapeOf(page)).filter((text) => !text.startsWith("("));
        assert.deepEqual(events, ["before", "one", "two", "after"]);
      },
      { expected: /^console: Failed to load resource: net::ERR_/ },
    );
  });
}

test("bytes that arrive one by one make the same events", async () => {
  await withPage(async ({ hub, proxy, page }) => {
    await subscribe(page);
    proxy.dribbles = true;
    const data = ["ünïcode 𝄞\nsecond line", " spaces ", "data: forged\n\nid: forged", "end"];
    const ids = await hub.publishAll(data.map((data) => ({ topic: "demo", event: "tÿpe", data })));
    await rowOf(page, "end");
    const events = (await tapeOf(page)).filter((text) => !text.startsWith("("));
    assert.deepEqual(events, data);
    const row = await rowOf(page, "end");
    assert.deepEqual({ id: row.id, type: row.type }, { id: ids.at(-1), type: "tÿpe" });
  });
});

const firstCuts = [["fetch", "next"], ["fetch", "last"], ["eventsource", "next"], ["eventsource", "last"]];

for (const [reader, start] of firstCuts) {
  test(`a cut before the first event loses nothing either: ${reader}, ${start}`, async () => {
    await withPage(async ({ hub, page }) => {
      await subscribe(page, { reader, start });
      await button(page, "Cut the connection").click();
      const data = Array.from({ length: 15 }, (_, n) => `missed ${n}`);
      await hub.publishAll(data.map((data) => ({ topic: "demo", data })));
      await button(page, "Reconnect").click();
      await page.getByText("15 events replayed, now live").waitFor();
      assert.deepEqual((await tapeOf(page)).filter((text) => !text.startsWith("(")), data);
    });
  });
}

test("a gap is announced with its reason", async () => {
  await withPage(
    async ({ hub, page }) => {
      await subscribe(page);
      const first = await hub.publish({ topic: "demo", data: "first" });
      await rowOf(page, "first");
      await button(page, "Cut the connection").click();
      const ids = await hub.publishAll(Array.from({ length: 30 }, (_, n) => ({ topic: "demo", data: `n${n}` })));
      await button(page, "Reconnect").click();
      const because = `older events are no longer kept; the oldest kept is ${ids[20]}`;
      await page.getByText(`Gap after ${first}: ${because}`).waitFor();
      await page.getByText("10 events replayed, now live").waitFor();
      await factIs(page, "Gaps", "1");
    },
    { options: ["--log-events-max", "10"] },
  );
});

test("a new subscription begins with the last events that are kept", async () => {
  await withPage(async ({ hub, page }) => {
    await hub.publishAll(Array.from({ length: 15 }, (_, n) => ({ topic: "demo", data: `n${n}` })));
    await page.getByLabel("How many of the last events").fill("3");
    await subscribe(page, { start: "last" });
    await page.getByText("3 events from before").waitFor();
    assert.deepEqual(await tapeOf(page), ["(Subscribed to demo)", "n12", "n13", "n14", "(3 events from before)"]);
  });
});

test("several selectors share one stream, and the topics are asked for", async () => {
  await withPage(async ({ hub, page }) => {
    await button(page, "Add another").click();
    await page.getByLabel("Topic 2", { exact: true }).fill("invoices");
    await page.getByLabel("Topic 1", { exact: true }).fill("orders/{id}");
    await page.locator("#subscribe").getByRole("button", { name: "Subscribe" }).click();
    await page.getByText(/^Open, read with/).waitFor();
    await hub.publish({ topic: "orders/7", data: "an order" });
    await hub.publish({ topic: "elsewhere", data: "not for us" });
    await hub.publish({ topic: ["invoices", "archive"], data: "an invoice" });
    await page.getByRole("cell", { name: "orders/7", exact: true }).waitFor();
    await page.getByRole("cell", { name: "invoices, archive", exact: true }).waitFor();
    const events = (await tapeOf(page)).filter((text) => !text.startsWith("("));
    assert.deepEqual(events, ["an order", "an invoice"]);
    await publish(page, { topic: "orders/8", text: "own" });
    assert.equal((await rowOf(page, "own")).topic, "orders/8");
  });
});

test("hostile data, types and topics are shown as text", async () => {
  const hostile = '<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>';
  await withPage(async ({ hub, page }) => {
    await subscribe(page, { topic: "*" });
    await hub.publish({ topic: "demo", event: "<b>type</b>", data: hostile });
    const row = await rowOf(page, hostile);
    assert.deepEqual({ data: row.data, type: row.type }, { data: hostile, type: "<b>type</b>" });
    await publish(page, { topic: "<i>topic</i>", text: `${hostile}2` });
    assert.equal((await rowOf(page, `${hostile}2`)).topic, "<i>topic</i>");
    assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
    assert.equal(await page.locator("#rows :is(img, script, b, i)").count(), 0);
  });
});

test("lines stay lines, and long data is folded until asked for", async () => {
  await withPage(async ({ hub, page }) => {
    await subscribe(page);
    await hub.publish({ topic: "demo", data: "first line\nsecond line" });
    assert.equal((await rowOf(page, "first line")).data, "first line\nsecond line");
    await hub.publish({ topic: "demo", data: "y".repeat(1_000) });
    await button(page, "show all").click();
    assert.equal((await rowOf(page, "yyyy")).data, "y".repeat(1_000));
  });
});

const refusals = [
  {
    name: "a selector that is too long",
    act: async (page) => {
      await page.getByLabel("Topic", { exact: true }).first().fill("x".repeat(5_000));
      await page.locator("#subscribe").getByRole("button", { name: "Subscribe" }).click();
    },
    said: /\S+ \S+/,
  },
  { name: "a reserved event type", act: (page) => publish(page, { type: "tidings.gap" }), said: /\S+ \S+/ },
  {
    name: "data that is not the JSON it is said to be",
    act: async (page) => {
      await page.getByLabel("Data").fill('{"a":');
      await button(page, "Publish").click();
    },
    said: /^The data is not JSON\. .*send it as text/,
  },
];

for (const { name, act, said } of refusals) {
  test(`a refusal is explained: ${name}`, async () => {
    await withPage(
      async ({ page }) => {
        await act(page);
        const alert = page.getByRole("alert").filter({ hasText: /\S/ });
        await alert.waitFor();
        assert.match(await alert.textContent(), said);
        assert.notEqual(await alert.locator("strong").textContent(), "");
      },
      { expected: /the server responded with a status of 400/ },
    );
  });
}

for (const reader of ["fetch", "eventsource"]) {
  test(`read with ${reader}: a full hub says so, and lets the page in when a place is free`, async () => {
    await withPage(
      async ({ hub, page }) => {
        const places = new AbortController();
        for (let taken = 0; taken < 4; taken += 1) {
          const response = await fetch(`${hub.url}/events?topic=demo`, { signal: places.signal });
          response.body.getReader().read().catch(() => {});
        }
        await page.getByLabel("Read with").selectOption(reader);
        await page.locator("#subscribe").getByRole("button", { name: "Subscribe" }).click();
        await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
        await page.getByText(/^Disconnected/).waitFor();
        places.abort();
        await hub.publish({ topic: "demo", data: "there is a place" });
        await page.locator("td.data", { hasText: "there is a place" }).waitFor({ timeout: 2 * LIMIT_MS });
        await page.getByText(/^Open, read with/).waitFor();
        await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor({ state: "detached" });
      },
      { options: ["--max-connections", "4"], expected: /the server responded with a status of 503/ },
    );
  });
}

const SECRET = "a secret of the page's tests, and long enough";
const GUARDED = ["--key", SECRET, "--anonymous=false", "--public-figures=false"];
const REFUSED = /the server responded with a status of 40[13]|net::ERR_/;

async function giveToken(page, text) {
  await page.getByLabel("Token", { exact: true }).fill(text);
  await button(page, "Use").click();
}

for (const reader of ["fetch", "eventsource"]) {
  test(`read with ${reader}: a token opens what is private, and stays in the tab`, async () => {
    const token = await mint(SECRET, ["--publish", "*", "--subscribe", "*", "--operate"]);
    await withPage(
      async ({ hub, proxy, page }) => {
        await page.getByText("figures are for operators").waitFor();
        await page.getByLabel("Read with").selectOption(reader);
        await page.locator("#subscribe").getByRole("button", { name: "Subscribe" }).click();
        await page.getByText("Refused", { exact: true }).waitFor();
        await page.getByRole("alert").filter({ hasText: "wants a token" }).waitFor();
        await giveToken(page, `Bearer ${token}\n`);
        await page.getByText(/^Open, read with/).waitFor();
        await page.getByText("in use", { exact: true }).waitFor();
        await page.getByText(/^0\.\S+, up \d+ s/).waitFor();
        assert.equal(await page.getByRole("alert").filter({ hasText: /\S/ }).count(), 0);
        await publish(page, { text: "from the page" });
        await rowOf(page, "from the page");
        await hub.publish({ topic: "demo", data: "private", private: true }, token);
        await rowOf(page, "private");

        proxy.cut();
        await page.getByText(/^Disconnected/).waitFor();
        await hub.publish({ topic: "demo", data: "after the cut", private: true }, token);
        await rowOf(page, "after the cut");

        await page.reload();
        await page.getByText("in use", { exact: true }).waitFor();
        await page.getByText(/^Open, read with/).waitFor();
        const [, payload] = token.split(".");
        const tells = ({ line }) => line.includes(payload);
        assert.equal(proxy.requests.filter(tells).length, 0, "no URL has the token");
        assert.equal(proxy.streamsOf("ticket=").length > 0, reader === "eventsource");
        const shown = await page.evaluate(() => document.documentElement.outerHTML + location.href);
        assert.ok(!shown.includes(payload), "nothing on the screen has the token");
        assert.match(await page.locator("#curl-publish").textContent(), /Bearer \$TOKEN/);

        await page.locator("#access summary").click();
        await button(page, "Forget").click();
        await page.getByText("Refused", { exact: true }).waitFor();
        await page.getByText("figures are for operators").waitFor();
        await publish(page, { text: "without" });
        await page.locator("#publish-problem").filter({ hasText: /\S/ }).waitFor();
        assert.equal(await page.evaluate(() => sessionStorage.length), 0);
      },
      { options: GUARDED, expected: REFUSED },
    );
  });

  test(`read with ${reader}: a stream ends with its token, and goes on with another where it ended`, async () => {
    const lasting = await mint(SECRET, ["--publish", "*", "--subscribe", "*"]);
    await withPage(
      async ({ hub, page }) => {
        await page.locator("#access summary").click();
        await giveToken(page, await mint(SECRET, ["--subscribe", "*", "--ttl", "5s"]));
        await subscribe(page, { reader });
        await hub.publish({ topic: "demo", data: "before", private: true }, lasting);
        await rowOf(page, "before");
        await page.getByText("The right to read this stream has expired").waitFor();
        await page.getByText("Refused", { exact: true }).waitFor();
        await page.getByRole("alert").filter({ hasText: "wants a token" }).waitFor();
        for (const data of ["meanwhile", "and again"]) {
          await hub.publish({ topic: "demo", data, private: true }, lasting);
        }
        await giveToken(page, lasting);
        await page.getByText("2 events replayed, now live").waitFor();
        await hub.publish({ topic: "demo", data: "live", private: true }, lasting);
        await rowOf(page, "live");
        const data = (await tapeOf(page)).filter((text) => !text.startsWith("("));
        assert.deepEqual(data, ["before", "meanwhile", "and again", "live"]);
      },
      { options: GUARDED, expected: REFUSED },
    );
  });
}

test("what can be no token is not sent", async () => {
  await withPage(async ({ proxy, page }) => {
    await page.locator("#access summary").click();
    await giveToken(page, "zwei Wörter");
    await page.getByRole("alert").filter({ hasText: "not a token" }).waitFor();
    assert.ok(proxy.requests.every(({ headers }) => headers.authorization === undefined));
  });
});

test("data is published as it is written: no number loses a digit", async () => {
  await withPage(async ({ page }) => {
    await subscribe(page);
    await page.getByLabel("Data").fill('{"n": 12345678901234567890}');
    await page.getByLabel("Data").press("Control+Enter");
    const row = await rowOf(page, "12345678901234567890");
    assert.match(row.data, /^\{"n": ?12345678901234567890\}$/);
  });
});

test("the list is bounded while the count goes on, and a pause holds it still", async () => {
  await withPage(async ({ hub, page }) => {
    await subscribe(page);
    const events = Array.from({ length: 700 }, (_, n) => ({ topic: "demo", data: `n${n}` }));
    for (let at = 0; at < events.length; at += 100) {
      await Promise.all(events.slice(at, at + 100).map((event) => hub.publish(event)));
    }
    await factIs(page, "Received", "700");
    assert.equal(await page.locator("#rows tr").count(), 500);
    await button(page, "Pause").click();
    const before = await tapeOf(page);
    await hub.publishAll([{ topic: "demo", data: "while paused" }, { topic: "demo", data: "and again" }]);
    await button(page, "Continue (2 waiting)").waitFor();
    assert.deepEqual(await tapeOf(page), before);
    await button(page, "Continue (2 waiting)").click();
    await rowOf(page, "and again");
    await button(page, "Clear").click();
    await page.getByText("Listening to").waitFor();
    await factIs(page, "Received", "0");
  });
});

test("the charts are fed by the hub", async () => {
  await withPage(async ({ page }) => {
    await subscribe(page);
    await button(page, "Publish 10 a second").click();
    const lively = (id) =>
      page.waitForFunction((id) => {
        const figure = document.getElementById(id);
        const points = figure.querySelector(".curve")?.getAttribute("d").split("L").length ?? 0;
        return Number(figure.querySelector("output").textContent) >= 5 && points >= 3;
      }, id);
    await lively("figure-published");
    await lively("figure-delivered");
    await page.waitForFunction(() => Number(document.querySelector("#figure-subscribers output").textContent) >= 1);
    await page.getByText(/^0\.\S+, up \d+ s/).waitFor();
    await page.getByRole("button", { name: /^Stop \(\d+ s left\)$/ }).click();
    await button(page, "Publish 10 a second").waitFor();
  });
});

test("the commands on the screen do the same in a terminal", async () => {
  await withPage(async ({ page }) => {
    await subscribe(page, { topic: "it's/{id}" });
    const tail = spawn("sh", ["-c", `exec ${await page.locator("#curl-subscribe").textContent()} -s`]);
    let printed = "";
    tail.stdout.on("data", (bytes) => (printed += bytes));
    try {
      for (const format of ["JSON", "Text"]) {
        const form = page.locator("#publish");
        await form.getByLabel("Topic").fill("it's/1");
        await form.getByLabel("Event type").fill("a & b");
        await form.getByText(format, { exact: true }).click();
        await form.getByLabel("Data").fill('["100% \'quoted\'", "$HOME"]');
        const command = await page.locator("#curl-publish").textContent();
        const { stdout } = await promisify(execFile)("sh", ["-c", `${command} -s`]);
        const { id } = JSON.parse(stdout);
        const row = page.getByRole("row").filter({ has: page.getByRole("cell", { name: id, exact: true }) });
        const type = await row.locator(".type").textContent();
        const data = await row.locator(".data").textContent();
        assert.equal(type, "a & b");
        assert.equal(data.replace('", "', '","'), '["100% \'quoted\'","$HOME"]');
        const signal = AbortSignal.timeout(LIMIT_MS);
        while (!printed.includes(`id: ${id}\n`)) await once(tail.stdout, "data", { signal });
      }
    } finally {
      tail.kill();
    }
  });
});

test("a copied command says so", async () => {
  await withPage(
    async ({ page }) => {
      await page.getByRole("button", { name: "Copy the command that subscribes" }).click();
      await page.getByText("Copied", { exact: true }).waitFor();
      assert.equal(
        await page.evaluate(() => navigator.clipboard.readText()),
        await page.locator("#curl-subscribe").textContent(),
      );
    },
    { window: { permissions: ["clipboard-read", "clipboard-write"] } },
  );
});

test("the address keeps the subscription across a reload", async () => {
  await withPage(
    async ({ hub, page }) => {
      await page.getByText("Open, read with EventSource").waitFor();
      await hub.publish({ topic: "orders/1", event: "paid", data: "before the reload" });
      await rowOf(page, "before the reload");
      await page.reload();
      await rowOf(page, "before the reload");
      assert.equal(await page.getByLabel("Event types").inputValue(), "paid, shipped");
    },
    { path: "/#topic=orders/%7Bid%7D&event=paid&event=shipped&last=5" },
  );
});

test("the keyboard alone is enough", async () => {
  await withPage(async ({ page }) => {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the events");
    await page.keyboard.press("Tab");
    assert.match(await page.evaluate(() => document.activeElement.textContent), /^Token/);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Topic");
    await page.keyboard.press("Enter");
    await page.getByText(/^Open, read with/).waitFor();
    await page.getByLabel("Data").focus();
    await page.keyboard.press("Control+Enter");
    await rowOf(page, '{"hello":"world"}');
    const reached = new Set();
    const stops = ":is(a, button, input, select, textarea, [tabindex]):visible:not(:disabled)";
    const count = await page.locator(stops).count();
    for (let step = 0; step < count + 2; step += 1) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
    }
    for (const id of ["types", "start", "reader", "topic", "type", "data", "demo", "cut", "pause", "clear", "events"]) {
      assert.ok(reached.has(id), `${id} is reached by Tab`);
    }
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("input, select, textarea, button")]
        .filter((field) => !field.labels?.length && !field.ariaLabel && field.textContent.trim() === "")
        .map((field) => field.outerHTML),
    );
    assert.deepEqual(unnamed, []);
  });
});

test("it fits a phone, whatever arrives", async () => {
  await withPage(
    async ({ hub, page }) => {
      await subscribe(page, { topic: "*" });
      await hub.publish({ topic: "t".repeat(200), event: "e".repeat(200), data: "d".repeat(2_000) });
      await rowOf(page, "dddd");
      await publish(page, { topic: "x".repeat(200), text: "w".repeat(500) });
      await rowOf(page, "wwww");
      const wide = await page.evaluate(() => ({
        page: document.documentElement.scrollWidth,
        tape: document.getElementById("events").scrollWidth - document.getElementById("events").clientWidth,
      }));
      assert.deepEqual(wide, { page: 375, tape: 0 });
      const small = await page.evaluate(() =>
        [...document.querySelectorAll("button:not(.link), input:not([type=radio]), select, textarea")]
          .filter((field) => field.checkVisibility() && field.getBoundingClientRect().height < 40)
          .map((field) => field.outerHTML),
      );
      assert.deepEqual(small, [], "every target is large enough for a finger");
    },
    { window: { viewport: { width: 375, height: 700 }, hasTouch: true, isMobile: true } },
  );
});

for (const colorScheme of ["light", "dark"]) {
  test(`the ${colorScheme} scheme is followed, and its text can be read`, async () => {
    await withPage(
      async ({ page }) => {
        await subscribe(page);
        await publish(page, { text: "read me" });
        await rowOf(page, "read me");
        await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState === "finished"));
        const { ground, low } = await page.evaluate(contrasts);
        assert.equal(ground < 0.2, colorScheme === "dark", `luminance of the ground is ${ground}`);
        assert.deepEqual(low, [], "text with less than 4.5:1");
      },
      { window: { colorScheme, viewport: { width: 1280, height: 800 } } },
    );
  });
}

/** Runs in the page: the luminance of the ground, and every visible text with too little contrast (WCAG 2.2, 1.4.3). */
function contrasts() {
  const parse = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const over = (top, under) => top.rgb.map((value, index) => value * top.alpha + under[index] * (1 - top.alpha));
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const groundOf = (element) => {
    if (element === null) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return color.alpha === 1 ? color.rgb : over(color, groundOf(element.parentElement));
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "");
    if (!hasText || !element.checkVisibility() || element.closest(":disabled, noscript")) continue;
    const ground = groundOf(element);
    const text = luminance(over(parse(getComputedStyle(element).color), ground));
    const [bright, dark] = [text, luminance(ground)].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 100)}`);
  }
  return { ground: luminance(groundOf(document.body)), low };
}

test("nothing moves for those who asked for that", async () => {
  await withPage(
    async ({ page }) => {
      await subscribe(page);
      await publish(page, { text: "still" });
      await rowOf(page, "still");
      assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    },
    { window: { reducedMotion: "reduce" } },
  );
});

test("nothing comes from elsewhere, and no policy is needed to be loosened", async () => {
  await withPage(async ({ hub, proxy, page }) => {
    const origins = await page.evaluate(() =>
      performance.getEntriesByType("resource").map(({ name }) => new URL(name).origin),
    );
    assert.deepEqual([...new Set(origins)], [proxy.url]);
    for (const path of ["/", "/ui/app.js", "/ui/style.css", "/ui/favicon.svg"]) {
      const response = await fetch(hub.url + path);
      assert.equal(response.status, 200, path);
      await response.arrayBuffer();
    }
    const policy = (await fetch(`${hub.url}/`)).headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.doesNotMatch(policy, /unsafe|data:|https?:/);
  });
});
