// Makes the README's picture of the page: `node picture.mjs [FILE]`, by default docs/page.png. Takes about a minute,
// because the charts show the last one.

import { fileURLToPath } from "node:url";

import { launch, open } from "./chromium.mjs";
import { Hub } from "./hub.mjs";

const FILE = process.argv[2] ?? fileURLToPath(new URL("../../docs/page.png", import.meta.url));
const SAMPLES = 58;
const SUBSCRIBERS = 24;
const LIMIT_MS = 90_000;

const hub = await Hub.start({ port: 8080 });
try {
  const browser = await launch();
  const load = startLoad();
  try {
    const window = { viewport: { width: 1280, height: 800 }, colorScheme: "light" };
    const { page } = await open(browser, `${hub.url}/#topic=orders/%7Bid%7D`, window);
    page.setDefaultTimeout(LIMIT_MS);
    await setScene(page);
    await page.screenshot({ path: FILE });
  } finally {
    load.stop();
    await browser.close();
  }
} finally {
  await hub.stop();
}

/** Publishes prices in waves, for subscribers that come one after the other. */
function startLoad() {
  const ended = new AbortController();
  const begun = performance.now();
  let subscribers = 0;
  const timer = setInterval(() => {
    const seconds = (performance.now() - begun) / 1_000;
    if (subscribers < SUBSCRIBERS * Math.min(1, seconds / 45)) {
      subscribers += 1;
      drain(`${hub.url}/events?topic=prices`, ended.signal);
    }
    const count = Math.round(4 + 3 * Math.sin(seconds / 4) + 1.5 * Math.sin(seconds / 1.3));
    for (let n = 0; n < count; n += 1) hub.publish({ topic: "prices", event: "price", data: { n } }).catch(() => {});
  }, 100);
  return {
    stop() {
      clearInterval(timer);
      ended.abort();
    },
  };
}

async function drain(url, signal) {
  try {
    const response = await fetch(url, { signal });
    for await (const _ of response.body);
  } catch {
    // The picture is taken.
  }
}

/** Waits for full charts, then plays some orders, with a cut in between. */
async function setScene(page) {
  await page.waitForFunction((samples) => {
    const curve = document.querySelector("#figure-published .curve");
    return curve?.getAttribute("d").split("L").length >= samples;
  }, SAMPLES);
  await publish(page, "orders/1041", "order-placed", { items: 3, total: "48.90" });
  await publish(page, "orders/1042", "order-placed", { items: 1, total: "12.00" });
  await publish(page, "orders/1041", "order-paid", { method: "card" });
  await page.click("#cut");
  await hub.publish({ topic: "orders/1042", event: "order-paid", data: { method: "transfer" } });
  await hub.publish({ topic: "orders/1041", event: "order-packed", data: { parcels: 2 } });
  await page.click("#cut");
  await page.getByText("2 events replayed, now live").waitFor();
  await publish(page, "orders/1043", "order-placed", { items: 7, total: "131.40" });
  await publish(page, "orders/1041", "order-shipped", { carrier: "post", parcels: ["7Q-2201", "7Q-2202"] });
  await hub.publish({ topic: "orders/1042", event: "note", data: "Please ring twice.\nThe bell is quiet." });
  await publish(page, "orders/1043", "order-paid", { method: "card" });
  await page.waitForFunction(() =>
    [...document.querySelectorAll("td.topic")].every(({ textContent }) => textContent !== "–"),
  );
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
  await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState === "finished"));
}

async function publish(page, topic, type, data) {
  await page.fill("#topic", topic);
  await page.fill("#type", type);
  await page.fill("#data", JSON.stringify(data));
  const outcome = await page.locator("#publish-outcome").textContent();
  await page.click("#publish-go");
  await page.waitForFunction(
    (before) => !["", before].includes(document.getElementById("publish-outcome").textContent),
    outcome,
  );
}
