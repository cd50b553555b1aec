// Server-sent events over Redis Pub/Sub, as articles describe it: each process subscribes to what its clients
// ask for, and writes what comes to their responses. Run several for more clients.
//
//   node hub.js REDIS_URL
//
// GET /events?topic=TOPIC subscribes; POST /events with {"topic", "data"} publishes. Nothing is kept: what was
// published while a client was not connected is not for it.

import http from "node:http";
import { createClient } from "redis";

const BACKLOG = 4096;
const HEARTBEAT_MS = 15_000;
const HEAD = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};

const publisher = createClient({ url: process.argv[2] });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) {
  // Without a listener an error ends the process; the client connects again by itself.
  client.on("error", (error) => console.error(error.message));
  await client.connect();
}

const topics = new Map();

async function subscribe(topic, response) {
  response.writeHead(200, HEAD);
  response.write("retry: 2000\n\n");
  let responses = topics.get(topic);
  if (!responses) {
    responses = new Set();
    topics.set(topic, responses);
    await subscriber.subscribe(topic, (data) => {
      const text = `data: ${data}\n\n`;
      for (const each of responses) {
        each.write(text);
      }
    });
  }
  responses.add(response);
  response.on("close", () => responses.delete(response));
}

async function publish(request, response) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const { topic, data } = JSON.parse(Buffer.concat(chunks).toString());
  try {
    await publisher.publish(topic, data);
    response.writeHead(200, { "content-type": "application/json", "content-length": 2 }).end("{}");
  } catch {
    response.writeHead(503, { "content-length": 0 }).end();
  }
}

setInterval(() => {
  for (const responses of topics.values()) {
    for (const response of responses) {
      response.write(":\n\n");
    }
  }
}, HEARTBEAT_MS);

const server = http.createServer((request, response) => {
  if (request.method === "POST") {
    publish(request, response);
  } else {
    subscribe(new URL(request.url, "http://localhost").searchParams.get("topic"), response);
  }
});
server.requestTimeout = 0;
server.listen({ host: "127.0.0.1", port: 0, backlog: BACKLOG }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
