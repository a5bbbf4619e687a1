// The TypeScript SDK's first line (1.x) as an old client: .peers/bin/node tests/peers/typescript1.mjs <orders.json

import { ears, handlers, load, orders, report, Seen, versionOf } from "./story.mjs";

const NAME = "@modelcontextprotocol/sdk";
const { Client } = await load(`${NAME}/client/index.js`);
const { StreamableHTTPClientTransport } = await load(`${NAME}/client/streamableHttp.js`);
const { StdioClientTransport } = await load(`${NAME}/client/stdio.js`);
const types = await load(`${NAME}/types.js`);

// This line of the SDK takes a schema where the next one takes a method's name.
const SCHEMAS = {
  "elicitation/create": types.ElicitRequestSchema,
  "sampling/createMessage": types.CreateMessageRequestSchema,
  "roots/list": types.ListRootsRequestSchema,
  "notifications/message": types.LoggingMessageNotificationSchema,
  "notifications/resources/updated": types.ResourceUpdatedNotificationSchema,
  "notifications/tools/list_changed": types.ToolListChangedNotificationSchema,
};

const seen = new Seen();
const client = new Client(
  { name: "waygate-tests", version: "1.0.0" },
  { capabilities: { elicitation: {}, sampling: {}, roots: {} } },
);
for (const [method, answer] of Object.entries(handlers(seen))) {
  client.setRequestHandler(SCHEMAS[method], answer);
}
for (const [method, hear] of Object.entries(ears(seen))) {
  client.setNotificationHandler(SCHEMAS[method], hear);
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
// The client tells its transport the negotiated revision, and nobody else.
let revision;
const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  revision = version;
  setProtocolVersion?.(version);
};
await client.connect(transport);
client.revision = () => revision;
const callTool = client.callTool.bind(client);
client.callTool = (params, options) => callTool(params, undefined, options);
await report(`TypeScript SDK ${versionOf(NAME)}`, client, seen);
await client.close();
