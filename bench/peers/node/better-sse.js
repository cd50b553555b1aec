// Streams by the package better-sse, with a channel for each topic: one process, as the library works.
//
//   node better-sse.js HEARTBEAT_MS [CERTIFICATE KEY]
//
// GET /TOPIC,TOPIC,... subscribes; POST /TOPIC publishes the body. What was missed is left to the
// application by the library and is not kept here.

import { createChannel, createSession } from "better-sse";
import { heartbeatMs, serve, textOf } from "./serve.js";

const options = { serializer: (data) => data };
if (heartbeatMs > 0) {
  options.keepAlive = heartbeatMs;
}
const channels = new Map();
let published = 0;

serve(async (request, response) => {
  const topics = request.url.slice(1).split(",");
  if (request.method === "POST") {
    const data = await textOf(request);
    published += 1;
    channels.get(topics[0])?.broadcast(data, "message", { eventId: String(published) });
    response.writeHead(204).end();
    return;
  }
  const session = await createSession(request, response, options);
  for (const topic of topics) {
    let channel = channels.get(topic);
    if (!channel) {
      channel = createChannel();
      channels.set(topic, channel);
    }
    channel.register(session);
  }
}, { mayBeHttp2: true });
