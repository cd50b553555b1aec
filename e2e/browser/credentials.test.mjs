// Cookies, and pages of other origins: what a browser sends, and what the hub makes of it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, open, seenUntil } from "./chromium.mjs";
import { BINARY, Hub } from "./hub.mjs";

const COOKIE = "tidings_token";

let browser, folder, key, listed, unlisted;
before(async () => {
  browser = await launch();
  folder = mkdtempSync(join(tmpdir(), "tidings-credentials-"));
  key = join(folder, "hub.key");
  writeFileSync(key, "0123456789abcdef".repeat(4).split("").reverse().join(""), { mode: 0o600 });
  [listed, unlisted] = [await serveEmptyPage(), await serveEmptyPage()];
});
after(async () => {
  await browser.close();
  listed.server.close();
  unlisted.server.close();
  rmSync(folder, { recursive: true });
});

/** An application of an origin of its own; of the same site as the hub, so that its cookies are sent. */
async function serveEmptyPage() {
  const server = createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end("<!doctype html><title>An application</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, origin: `http://localhost:${server.address().port}` };
}

function token(...words) {
  return execFileSync(BINARY, ["token", "--key-file", key, ...words], { encoding: "utf8" }).trim();
}

/** Runs `body` with a hub that asks for tokens, whose name is `localhost` for pages. */
async function withHub(options, body) {
  const all = ["--key-file", key, ...options];
  const hub = await Hub.start({ options: all });
  const pages = [];
  const operator = token("--publish", "*", "--user", "backend");
  const publish = async (event) => {
    const answer = await fetch(`${hub.url}/events`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${operator}` },
      body: JSON.stringify(event),
    });
    assert.equal(answer.status, 200, await answer.clone().text());
    return (await answer.json()).id;
  };
  const visit = async (origin, value) => {
    const opened = await open(browser, origin);
    pages.push(opened);
    if (value !== undefined) await setCookie(opened.page, value);
    return opened.page;
  };
  try {
    await body({ url: `http://localhost:${hub.port}`, publish, visit });
  } finally {
    for (const opened of pages) await opened.close();
    await hub.stop();
  }
}

function setCookie(page, value) {
  const cookie = { name: COOKIE, value, domain: "localhost", path: "/", httpOnly: true, sameSite: "Lax" };
  return page.context().addCookies([cookie]);
}

/** Opens an EventSource with or without cookies, and records what becomes of it. */
function listen(page, url, withCredentials) {
  return page.evaluate(
    ([url, withCredentials]) => {
      const source = new EventSource(url, { withCredentials });
      const seen = { source, opens: 0, events: [], states: [], ended: [] };
      globalThis.seen = seen;
      source.addEventListener("open", () => (seen.opens += 1));
      source.addEventListener("error", () => seen.states.push(source.readyState));
      source.addEventListener("message", ({ data }) => seen.events.push(data));
      source.addEventListener("tidings.expired", ({ data }) => seen.ended.push(JSON.parse(data).reason));
    },
    [url, withCredentials],
  );
}

/** Publishes from a page as its scripts would; resolves to the status, or to `blocked`. */
function publishFrom(page, url, data, options = {}) {
  return page.evaluate(
    async ([url, data, options]) => {
      const body = new URLSearchParams({ topic: "users/ann", data });
      const asked = fetch(`${url}/events`, { method: "POST", body, credentials: "include", ...options });
      return asked.then(
        (answer) => answer.status,
        () => "blocked",
      );
    },
    [url, data, options],
  );
}

const CLOSED = 2;
const ANN = ["--user", "ann", "--subscribe", "users/ann", "--publish", "users/ann"];

test("a page of a listed origin streams and publishes with its cookie", async () => {
  await withHub(["--cors-origins", listed.origin, "--anonymous=false"], async ({ url, publish, visit }) => {
    const page = await visit(listed.origin, token(...ANN));
    await listen(page, `${url}/events?topic=*`, true);
    await seenUntil(page, (seen) => seen.opens === 1);
    await publish({ topic: "users/bob", data: "for bob", private: true });
    await publish({ topic: "users/ann", data: "for ann", private: true });
    assert.equal(await publishFrom(page, url, "from ann"), 200);
    const seen = await seenUntil(page, (seen) => seen.events.length >= 2);
    assert.deepEqual(seen.events, ["for ann", "from ann"]);
  });
});

test("without withCredentials the cookie stays at home, and nobody is let in", async () => {
  await withHub(["--cors-origins", listed.origin, "--anonymous=false"], async ({ url, visit }) => {
    const page = await visit(listed.origin, token(...ANN));
    await listen(page, `${url}/events?topic=*`, false);
    const seen = await seenUntil(page, (seen) => seen.states.length >= 1);
    assert.deepEqual([seen.opens, seen.states], [0, [CLOSED]]);
  });
});

test("a page of another origin neither reads nor publishes with somebody's cookie", async () => {
  await withHub(["--cors-origins", listed.origin, "--anonymous=false"], async ({ url, publish, visit }) => {
    const ann = token(...ANN);
    const own = await visit(listed.origin, ann);
    await listen(own, `${url}/events?topic=*`, true);
    await seenUntil(own, (seen) => seen.opens === 1);
    const page = await visit(unlisted.origin, ann);
    await listen(page, `${url}/events?topic=*`, true);
    const seen = await seenUntil(page, (seen) => seen.states.length >= 1);
    assert.deepEqual([seen.opens, seen.states], [0, [CLOSED]]);
    assert.equal(await publishFrom(page, url, "forged"), "blocked");
    assert.equal(await publishFrom(page, url, "forged without an answer", { mode: "no-cors" }), 0);
    const json = { method: "POST", headers: { "content-type": "application/json" }, body: '{"topic":"users/ann"}' };
    assert.equal(await publishFrom(page, url, "", json), "blocked");
    await publish({ topic: "users/ann", data: "the end", private: true });
    assert.deepEqual((await seenUntil(own, (seen) => seen.events.length >= 1)).events, ["the end"]);
  });
});

test("where all origins are listed, no cookie counts", async () => {
  await withHub(["--cors-origins", "*", "--anonymous=true"], async ({ url, publish, visit }) => {
    const page = await visit(unlisted.origin, token(...ANN));
    await listen(page, `${url}/events?topic=*`, true);
    const refused = await seenUntil(page, (seen) => seen.states.length >= 1);
    assert.deepEqual([refused.opens, refused.states], [0, [CLOSED]]);
    assert.equal(await publishFrom(page, url, "forged"), "blocked");
    await listen(page, `${url}/events?topic=*`, false);
    await seenUntil(page, (seen) => seen.opens === 1);
    await publish({ topic: "users/ann", data: "for ann", private: true });
    await publish({ topic: "users/ann", data: "for all" });
    assert.deepEqual((await seenUntil(page, (seen) => seen.events.length >= 1)).events, ["for all"]);
  });
});

test("a token that expires ends the stream, and a new cookie lets the browser go on by itself", async () => {
  await withHub(["--cors-origins", listed.origin, "--anonymous=false"], async ({ url, publish, visit }) => {
    const page = await visit(listed.origin, token(...ANN, "--ttl", "4s"));
    await listen(page, `${url}/events?topic=users/ann`, true);
    await seenUntil(page, (seen) => seen.opens === 1);
    await publish({ topic: "users/ann", data: "before", private: true });
    await seenUntil(page, (seen) => seen.events.length === 1);
    await setCookie(page, token(...ANN));
    const ended = await seenUntil(page, (seen) => seen.ended.length === 1);
    assert.deepEqual(ended.ended, ["expired"]);
    await publish({ topic: "users/ann", data: "meanwhile", private: true });
    const seen = await seenUntil(page, (seen) => seen.events.length >= 2);
    assert.deepEqual(seen.events, ["before", "meanwhile"]);
    assert.equal(seen.opens, 2);
  });
});
