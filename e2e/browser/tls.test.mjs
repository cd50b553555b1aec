// What a browser makes of a hub that encrypts: HTTP/2, and more streams than it opens connections.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, open } from "./chromium.mjs";
import { Hub } from "./hub.mjs";

// Over HTTP/1.1 a browser would leave all but six of them waiting.
const STREAMS = 250;

let browser, folder;
before(async () => {
  browser = await launch();
  folder = mkdtempSync(join(tmpdir(), "tidings-tls-"));
  const made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
  const files = ["-keyout", join(folder, "key.pem"), "-out", join(folder, "cert.pem")];
  execFileSync("openssl", [...made.split(" "), ...files], { stdio: "ignore" });
});
after(async () => {
  await browser.close();
  rmSync(folder, { recursive: true });
});

function start(port) {
  const options = ["--tls-cert", join(folder, "cert.pem"), "--tls-key", join(folder, "key.pem")];
  return Hub.start({ port, options, data: join(folder, "data") });
}

/** How many connections to a port are open, as the system counts them on the server's side. */
function connections(port) {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = readFileSync("/proc/net/tcp", "utf8").split("\n").map((line) => line.trim().split(/\s+/));
  return lines.filter(([, from, , state]) => from?.endsWith(local) && state === "01").length;
}

/** Publishes from the page, which is of the hub's origin; resolves to the id. */
function publish(page, data) {
  return page.evaluate(async (data) => {
    const body = new URLSearchParams({ topic: "demo", data });
    const answer = await fetch("/events", { method: "POST", body });
    return (await answer.json()).id;
  }, data);
}

test("a page has many streams over one connection, and all of them resume", async () => {
  let hub = await start(0);
  const { page, close } = await open(browser, `${hub.url}/health/live`, { ignoreHTTPSErrors: true, bypassCSP: true });
  try {
    const protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
    assert.equal(protocol, "h2");
    await page.evaluate((count) => {
      globalThis.streams = Array.from({ length: count }, () => {
        const source = new EventSource("/events?topic=demo");
        const stream = { opens: 0, ids: [] };
        source.addEventListener("open", () => (stream.opens += 1));
        source.addEventListener("message", ({ lastEventId }) => stream.ids.push(lastEventId));
        return stream;
      });
    }, STREAMS);
    const all = (holds) => page.waitForFunction(`globalThis.streams.every((stream) => ${holds})`);
    await all("stream.opens === 1");
    assert.equal(connections(hub.port), 1);
    const ids = [await publish(page, "before")];
    await all("stream.ids.length === 1");

    const { port } = hub;
    await hub.stop();
    hub = await start(port);
    await all("stream.opens === 2");
    ids.push(await publish(page, "after"));
    await all("stream.ids.length === 2");
    const seen = await page.evaluate(() => globalThis.streams.map(({ ids }) => ids));
    assert.deepEqual(seen, Array(STREAMS).fill(ids));
  } finally {
    await close();
    await hub.stop();
  }
});
