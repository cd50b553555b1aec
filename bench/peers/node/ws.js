// WebSockets by the package ws: one process, no compression, pings as its documentation shows them.
//
//   node ws.js HEARTBEAT_MS [CERTIFICATE KEY]
//
// A WebSocket of /TOPIC,TOPIC,... subscribes; POST /TOPIC publishes the body as a text message.

import { WebSocketServer } from "ws";
import { heartbeatMs, serve, textOf } from "./serve.js";

const topics = new Map();

const server = serve(async (request, response) => {
  const data = await textOf(request);
  for (const socket of topics.get(request.url.slice(1)) ?? []) {
    socket.send(data);
  }
  response.writeHead(204).end();
});

const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket, request) => {
  const names = request.url.slice(1).split(",");
  for (const name of names) {
    const subscribed = topics.get(name) ?? new Set();
    topics.set(name, subscribed.add(socket));
  }
  socket.isAlive = true;
  socket.on("pong", () => {
    socket.isAlive = true;
  });
  socket.on("close", () => {
    for (const name of names) {
      topics.get(name).delete(socket);
    }
  });
  socket.on("error", () => socket.terminate());
});

if (heartbeatMs > 0) {
  setInterval(() => {
    for (const socket of sockets.clients) {
      if (!socket.isAlive) {
        socket.terminate();
        continue;
      }
      socket.isAlive = false;
      socket.ping();
    }
  }, heartbeatMs);
}
