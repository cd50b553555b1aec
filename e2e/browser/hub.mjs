// The hub as its users meet it: the built binary, its address and its answers.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const BINARY = process.env.TIDINGS_BIN ?? fileURLToPath(new URL("../../target/debug/tidings", import.meta.url));
const READY_MS = 30_000;
const ENDED_MS = 30_000;

/** A token signed with a secret, as `tidings token` mints it with these options. */
export async function mint(secret, options) {
  const env = { ...process.env, TIDINGS_KEY: secret };
  const { stdout } = await promisify(execFile)(BINARY, ["token", ...options], { env });
  return stdout.trim();
}

/** A running `tidings serve`. */
export class Hub {
  #process;
  #said = "";

  /**
   * Resolves when the hub accepts connections. `port` 0 takes a free one. Events are kept in the folder `data` if
   * there is one, else in memory.
   */
  static async start({ port = 0, data, options = [] } = {}) {
    const hub = new Hub();
    const kept = data === undefined ? ["--log", "memory"] : ["--data", data];
    const fixed = ["serve", "--listen", `127.0.0.1:${port}`, ...kept, "--retry", "200ms", "--drain", "0s"];
    hub.#process = spawn(BINARY, [...fixed, ...options], { stdio: ["ignore", "pipe", "pipe"] });
    hub.#process.stderr.on("data", (bytes) => (hub.#said = (hub.#said + bytes).slice(-10_000)));
    const failed = once(hub.#process, "error").then(([error]) => Promise.reject(error));
    const ready = once(createInterface(hub.#process.stdout), "line", { signal: AbortSignal.timeout(READY_MS) });
    const ended = once(hub.#process, "exit").then(() => [""]);
    let line;
    try {
      [line] = await Promise.race([ready, ended, failed]);
    } catch (error) {
      hub.#process.kill("SIGKILL");
      throw error;
    }
    [hub.url] = /https?:\/\/127\.0\.0\.1:\d+/.exec(line) ?? [];
    if (hub.url === undefined) {
      hub.#process.kill("SIGKILL");
      throw new Error(`no URL in ${JSON.stringify(line)}; the hub said: ${hub.#said}`);
    }
    hub.port = Number(new URL(hub.url).port);
    return hub;
  }

  /** Publishes one event, with a token if there is one; resolves to its id. */
  async publish(event, token) {
    const bearer = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}/events`, {
      method: "POST",
      headers: { "content-type": "application/json", ...bearer },
      body: JSON.stringify(event),
    });
    const answer = await response.json();
    if (response.status !== 200) throw new Error(`publish: ${response.status} ${JSON.stringify(answer)}`);
    return answer.id;
  }

  /** Publishes one after the other; resolves to their ids. */
  async publishAll(events) {
    const ids = [];
    for (const event of events) ids.push(await this.publish(event));
    return ids;
  }

  /** Ends the hub as an init system does. */
  async stop() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, "exit", { signal: AbortSignal.timeout(ENDED_MS) });
    this.#process.kill("SIGTERM");
    try {
      await exited;
    } catch {
      this.#process.kill("SIGKILL");
      throw new Error(`the hub did not end after SIGTERM; it said: ${this.#said}`);
    }
  }
}
