// What the servers share: options, listening with or without TLS, and reading a body.

import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const BACKLOG = 4096;

const [heartbeat, certificate, key] = process.argv.slice(2);

/** After how much silence something is sent; 0: as by default. */
export const heartbeatMs = Number(heartbeat);

/** Listens on a free loopback port and says where; with TLS if files are named, and HTTP/2 if it may. */
export function serve(handle, { mayBeHttp2 = false } = {}) {
  const server = listen(handle, mayBeHttp2);
  // Streams stay as long as their readers do.
  server.requestTimeout = 0;
  server.listen({ host: "127.0.0.1", port: 0, backlog: BACKLOG }, () => {
    console.log(`listening on 127.0.0.1:${server.address().port}`);
  });
  process.on("SIGTERM", () => process.exit(0));
  return server;
}

function listen(handle, mayBeHttp2) {
  if (!certificate) {
    return http.createServer(handle);
  }
  const options = { cert: readFileSync(certificate), key: readFileSync(key), minVersion: "TLSv1.3" };
  return mayBeHttp2
    ? http2.createSecureServer({ ...options, allowHTTP1: true }, handle)
    : https.createServer(options, handle);
}

/** The whole body of a request. */
export async function textOf(request) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
