// The real browser, and the record that a page of it keeps for the tests.

import { chromium } from "playwright-core";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** How long a test waits for something to become true in the browser. */
export const LIMIT_MS = 30_000;

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
}

/**
 * Opens `url` in a context of its own. `faults` collects what must not happen: errors and warnings on the
 * console, uncaught exceptions, and violations of the content security policy.
 */
export async function open(browser, url, options = {}) {
  const window = await browser.newContext(options);
  window.setDefaultTimeout(LIMIT_MS);
  const page = await window.newPage();
  const faults = [];
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) faults.push(`console: ${line.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`exception: ${error}`));
  await page.exposeFunction("reportViolation", (text) => faults.push(`policy: ${text}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      globalThis.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  await page.goto(url);
  return { page, faults, close: () => window.close() };
}

/** Opens the browser's own EventSource in the page and records what it dispatches in `globalThis.seen`. */
export async function listen(page, path, types = []) {
  await page.evaluate(
    ([path, types]) => {
      const source = new EventSource(path);
      const seen = { source, opens: 0, events: [], lost: [], lastId: "" };
      globalThis.seen = seen;
      source.addEventListener("open", () => (seen.opens += 1));
      source.addEventListener("error", () => seen.lost.push({ lastId: seen.lastId, readyState: source.readyState }));
      const control = ["gap", "lagged", "shutdown", "finished"].map((name) => `tidings.${name}`);
      for (const type of ["message", ...control, ...types]) {
        source.addEventListener(type, ({ data, lastEventId }) => {
          if (!type.startsWith("tidings.")) seen.lastId = lastEventId;
          seen.events.push({ type, data, id: lastEventId });
        });
      }
    },
    [path, types],
  );
}

/** Waits until the record in the page satisfies `holds`, then returns it. */
export async function seenUntil(page, holds, argument, timeout = LIMIT_MS) {
  const condition = `(${holds})(globalThis.seen, ${JSON.stringify(argument)})`;
  await page.waitForFunction(condition, undefined, { timeout }).catch(async (error) => {
    const seen = await page.evaluate(() => {
      const { events, ...others } = globalThis.seen;
      return { ...others, source: undefined, newestEvents: events.slice(-20) };
    });
    throw new Error(`${condition} did not come true: ${JSON.stringify(seen)}`, { cause: error });
  });
  return page.evaluate(() => ({ ...globalThis.seen, source: undefined }));
}
