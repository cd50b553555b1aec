// A TCP proxy between browser and hub that breaks connections when told to, and records the requests it passes on.

import { EventEmitter, once } from "node:events";
import net from "node:net";

/** Emits `request` with `{ line, headers }` for every request head that a client sent. */
export class CuttingProxy extends EventEmitter {
  requests = [];
  #server;
  #targetPort;
  #streams = new Set(); // { client, hub, isStream }
  #refuses = false;

  /** When true, the hub's bytes are passed on one at a time. */
  dribbles = false;

  static async start(targetPort) {
    const proxy = new CuttingProxy();
    proxy.#targetPort = targetPort;
    proxy.#server = net.createServer((client) => proxy.#accept(client));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  /** The requests of event streams whose address contains `text`. */
  streamsOf(text) {
    return this.requests.filter(({ line }) => line.startsWith("GET ") && line.includes(text));
  }

  /** Breaks every connection at once, with a reset, wherever it is. */
  cut() {
    for (const pair of this.#streams) breakPair(pair);
  }

  /** Resolves when the next bytes of an event stream were passed on by half, and the connection then broken. */
  cutInsideNextEvent() {
    return new Promise((resolve) => {
      for (const pair of this.#streams) pair.cutInside = resolve;
    });
  }

  /** Breaks every connection, and every new one, until `accept`. */
  refuse() {
    this.#refuses = true;
    this.cut();
  }

  accept() {
    this.#refuses = false;
  }

  async stop() {
    this.refuse();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client) {
    client.on("error", () => {});
    if (this.#refuses) {
      client.resetAndDestroy();
      return;
    }
    const hub = net.connect(this.#targetPort, "127.0.0.1");
    hub.on("error", () => {});
    client.setNoDelay(true);
    const pair = { client, hub, passed: Promise.resolve() };
    this.#streams.add(pair);
    const closed = () => {
      this.#streams.delete(pair);
      client.destroy();
      hub.destroy();
    };
    client.on("close", closed);
    hub.on("close", closed);
    const heads = new HeadReader((request) => {
      this.requests.push(request);
      this.emit("request", request);
    });
    client.on("data", (bytes) => {
      heads.push(bytes);
      hub.write(bytes);
    });
    client.on("end", () => hub.end());
    hub.on("data", (bytes) => {
      const at = pair.cutInside && bytes.includes("data:") ? bytes.indexOf("data:") + 6 : -1;
      if (at < 0) {
        if (this.dribbles) pair.passed = pair.passed.then(() => dribble(bytes, client));
        else client.write(bytes);
        return;
      }
      const { cutInside } = pair;
      pair.cutInside = undefined;
      client.write(bytes.subarray(0, at), () => {
        client.end();
        hub.destroy();
        cutInside();
      });
    });
    hub.on("end", () => client.end());
  }
}

/** Writes each byte when the one before has left. */
async function dribble(bytes, client) {
  for (const byte of bytes) {
    await new Promise((resolve) => client.write(Buffer.of(byte), resolve));
  }
}

function breakPair({ client, hub }) {
  client.resetAndDestroy();
  hub.destroy();
}

/** Finds the request heads in what a client sends, bodies of known length skipped. */
class HeadReader {
  #bytes = "";
  #bodyLeft = 0;
  #found;

  constructor(found) {
    this.#found = found;
  }

  push(bytes) {
    this.#bytes += bytes.toString("latin1");
    for (;;) {
      const skipped = Math.min(this.#bodyLeft, this.#bytes.length);
      this.#bodyLeft -= skipped;
      this.#bytes = this.#bytes.slice(skipped);
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      const [line, ...fields] = this.#bytes.slice(0, end).split("\r\n");
      const headers = Object.fromEntries(
        fields.map((field) => {
          const colon = field.indexOf(":");
          return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
        }),
      );
      this.#bytes = this.#bytes.slice(end + 4);
      this.#bodyLeft = Number(headers["content-length"] ?? 0);
      this.#found({ line, headers });
    }
  }
}
