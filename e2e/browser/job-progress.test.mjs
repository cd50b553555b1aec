// The example examples/job-progress as its README starts it: a page of another origin, a worker, and a hub that keeps
// events on disk.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch, LIMIT_MS, open } from "./chromium.mjs";
import { Hub } from "./hub.mjs";

const EXAMPLE = fileURLToPath(new URL("../../examples/job-progress", import.meta.url));
const JOB = "jobs/7";
// In MiB a second: the whole job takes eight seconds, so that it can be interrupted.
const RATE = 0.5;

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Python's own server of files, which the README uses; resolves to its origin. */
async function servePage() {
  const server = spawn("python3", ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", EXAMPLE, "0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [line] = await once(createInterface(server.stdout), "line", { signal: AbortSignal.timeout(LIMIT_MS) });
  const [, port] = /port (\d+)/.exec(line);
  return { origin: `http://127.0.0.1:${port}`, stop: () => server.kill() };
}

/** Starts the worker; `ended` resolves to its exit status, or to the signal that ended it. */
function startWorker(hub, folder, rate) {
  const worker = spawn("python3", [join(EXAMPLE, "worker.py"), JOB, folder, "--rate", String(rate)], {
    env: { ...process.env, TIDINGS_URL: hub.url },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(worker, "exit").then(([status, signal]) => status ?? signal);
  return { ended, kill: () => worker.kill("SIGKILL") };
}

const bar = (page) => page.locator("#bar").evaluate(({ value }) => value);

const barReaches = (page, percent) =>
  page.waitForFunction((percent) => document.getElementById("bar").value >= percent, percent, { timeout: LIMIT_MS });

/** Has each page that is loaded from now on record what percents its EventSource is told. */
const recordPercents = (page) =>
  page.addInitScript(() => {
    globalThis.percents = [];
    globalThis.EventSource = class extends EventSource {
      constructor(...given) {
        super(...given);
        this.addEventListener("progress", ({ data }) => percents.push(JSON.parse(data).percent));
      }
    };
  });

test("the bar survives a reload, a killed worker and a restarted hub, and the stream ends by itself", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "tidings-job-"));
  const [folder, data] = [join(scratch, "files"), join(scratch, "data")];
  await mkdir(folder);
  for (let n = 0; n < 40; n += 1) await writeFile(join(folder, `${n}.bin`), randomBytes(100_000));
  const server = await servePage();
  const options = ["--cors-origins", server.origin];
  let hub = await Hub.start({ data, options });
  let worker;
  const { page, faults, close } = await open(browser, "about:blank", { viewport: { width: 720, height: 480 } });
  try {
    await recordPercents(page);
    await page.goto(`${server.origin}/?job=${JOB}&hub=${hub.url}`);
    await page.getByText("waiting for the worker").waitFor();
    await page.getByText("live").waitFor();

    worker = startWorker(hub, folder, RATE);
    await barReaches(page, 20);
    worker.kill();
    assert.equal(await worker.ended, "SIGKILL");

    await page.reload();
    await barReaches(page, 20);
    const told = await page.evaluate(() => percents);
    assert.equal(told.length, 1, "a page that is reloaded begins with what is so now");

    // What the worker tells again reaches nobody; the page is told the next percent, not the first.
    worker = startWorker(hub, folder, RATE);
    await barReaches(page, told[0] + 10);

    await hub.stop();
    await page.getByText("reconnecting").waitFor();
    hub = await Hub.start({ port: hub.port, data, options });

    await page.getByText("complete: 40 files, 4,000,000 bytes").waitFor();
    await page.getByText("stream ended").waitFor();
    assert.equal(await worker.ended, 0);
    assert.equal(await bar(page), 100);
    const percents = await page.evaluate(() => globalThis.percents);
    const expected = Array.from({ length: 101 - told[0] }, (_, n) => told[0] + n);
    assert.deepEqual(percents, expected, "each percent once, in order");

    // A job that has ended long ago is shown as it ended.
    await page.reload();
    await page.getByText("complete: 40 files, 4,000,000 bytes").waitFor();
    await page.getByText("stream ended").waitFor();
    const lost = /ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING)/;
    assert.deepEqual(faults.filter((fault) => !lost.test(fault)), []);
  } finally {
    worker?.kill();
    await close();
    await hub.stop();
    server.stop();
    await rm(scratch, { recursive: true });
  }
});
