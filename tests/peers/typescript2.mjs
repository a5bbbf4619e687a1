// The TypeScript SDK's current client (2.x) in both eras: .peers/bin/node tests/peers/typescript2.mjs <orders.json

import { ears, handlers, load, orders, report, Seen, versionOf } from "./story.mjs";

const NAME = "@modelcontextprotocol/client";
const { Client, StreamableHTTPClientTransport } = await load(NAME);
const { StdioClientTransport } = await load(`${NAME}/stdio`);

const seen = new Seen();
const client = new Client(
  { name: "waygate-tests", version: "1.0.0" },
  {
    capabilities: { elicitation: {}, sampling: {}, roots: {} },
    versionNegotiation: { mode: orders.era === "modern" ? "auto" : "legacy" },
  },
);
for (const [method, answer] of Object.entries(handlers(seen))) {
  client.setRequestHandler(method, answer);
}
for (const [method, hear] of Object.entries(ears(seen))) {
  client.setNotificationHandler(method, hear);
}
const transport =
  orders.transport === "http"
    ? new StreamableHTTPClientTransport(new URL(orders.url), {
        requestInit: { headers: orders.headers },
      })
    : new StdioClientTransport({
        command: orders.command,
        args: orders.arguments,
        env: orders.environment,
        cwd: orders.folder,
      });
await client.connect(transport);
client.revision = () => client.getNegotiatedProtocolVersion();
await report(`TypeScript SDK ${versionOf(NAME)}`, client, seen);
await client.close();
