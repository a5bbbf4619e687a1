// What both TypeScript client programs share; report.py says what the orders, the features and the values are.
//
// Knows no SDK: a program hands over an open connection that has the SDK's calls under one set of names. The values have
// the same shapes as those of the Python programs.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const FEATURE_WITHIN_MS = 12_000;
const WATCHED = "test://watched-resource";
const ANSWERS = {
  username: "ada",
  email: "ada@example.com",
  name: "Ada",
  color: "blue",
  context: "tea",
  ok: true,
};

/** The folder of the installed packages is not above this file, so imports start from there. */
const packages = createRequire(new URL("../../.peers/npm/package.json", import.meta.url));
export const load = (name) => import(pathToFileURL(packages.resolve(name)).href);
export const versionOf = (name) => {
  const file = new URL(`../../.peers/npm/node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
};

export const orders = JSON.parse(readFileSync(0, "utf8"));

/** What the server asked and told this client since the last clear. */
export class Seen {
  asked = [];
  logged = [];
  told = [];

  clear() {
    this.asked = [];
    this.logged = [];
    this.told = [];
  }

  async until(isSeen, withinMs = 5000) {
    const end = performance.now() + withinMs;
    while (!isSeen()) {
      if (performance.now() > end) {
        throw new Error(`waited ${withinMs} ms; seen: ${JSON.stringify([this.told, this.logged])}`);
      }
      await sleep(10);
    }
  }
}

export const textOf = (content) =>
  (Array.isArray(content) ? content : [content])
    .filter((block) => block.type === "text")
    .map((block) => block.text)
    .join("\n");

/** The client's side of a dialogue: method → answer. */
export const handlers = (seen) => ({
  "elicitation/create": (request) => {
    const { message, requestedSchema } = request.params;
    const fields = Object.keys(requestedSchema.properties).sort();
    seen.asked.push({ message, fields });
    if (message.includes("decline")) return { action: "decline" };
    const known = fields.filter((name) => name in ANSWERS);
    return {
      action: "accept",
      content: Object.fromEntries(known.map((name) => [name, ANSWERS[name]])),
    };
  },
  "sampling/createMessage": (request) => {
    seen.asked.push({ prompt: request.params.messages.map((one) => textOf(one.content)) });
    const content = { type: "text", text: "Once upon a time." };
    return { role: "assistant", content, model: "a-model", stopReason: "endTurn" };
  },
  "roots/list": () => {
    seen.asked.push({ roots: true });
    return { roots: [{ uri: "file:///srv/peer", name: "peer" }] };
  },
});

/** Notification method → what is noted. */
export const ears = (seen) => ({
  "notifications/message": (message) => seen.logged.push(message.params.data),
  "notifications/resources/updated": (message) =>
    seen.told.push(`${message.method} ${message.params.uri}`),
  "notifications/tools/list_changed": (message) => seen.told.push(message.method),
});

const codeOf = async (run) => {
  try {
    return { result: await run() };
  } catch (error) {
    if (typeof error.code !== "number") throw error;
    return { code: error.code };
  }
};

/** All features of one connection, in the order of the Python programs. */
const story = (client, seen) => {
  const call = (name, args = {}, options) => client.callTool({ name, arguments: args }, options);
  const modern = orders.era === "modern";
  const cancellations = async () => Number(textOf((await call("cancellations_seen")).content));
  const ask = (name, args) => async () => {
    seen.clear();
    const result = await call(name, args);
    return {
      asked: [...seen.asked],
      isError: Boolean(result.isError),
      text: textOf(result.content),
    };
  };
  /** Act while a change of this kind is listened for, and say which notification came. */
  const told = async (filter, tool, notification) => {
    seen.clear();
    const stream = modern ? await client.listen(filter) : undefined;
    await call(tool);
    await seen.until(() => seen.told.includes(notification));
    await stream?.close();
  };
  return {
    revision: () => client.revision(),
    list: async () => ({
      tools: (await client.listTools()).tools.map((tool) => tool.name),
      prompts: (await client.listPrompts()).prompts.map((prompt) => prompt.name),
      resources: (await client.listResources()).resources.map((resource) => resource.uri),
      templates: (await client.listResourceTemplates()).resourceTemplates.map(
        (template) => template.uriTemplate,
      ),
    }),
    call: async () => textOf((await client.callTool({ name: "test_simple_text" })).content),
    content: async () =>
      (await call("test_multiple_content_types")).content.map((block) => block.type),
    tool_error: async () => {
      const result = await call("test_error_handling");
      return { isError: Boolean(result.isError), text: textOf(result.content) };
    },
    unknown_tool: () => codeOf(() => call("no_such_tool")),
    progress: async () => {
      const steps = [];
      const onprogress = ({ progress, total }) => steps.push([progress, total]);
      await call("test_tool_with_progress", {}, { onprogress });
      return steps;
    },
    log: async () => {
      seen.clear();
      if (!modern) await client.setLoggingLevel("debug");
      const _meta = modern ? { "io.modelcontextprotocol/logLevel": "debug" } : undefined;
      await client.callTool({ name: "test_tool_with_logging", arguments: {}, _meta });
      await seen.until(() => seen.logged.length >= 3);
      return [...seen.logged];
    },
    elicitation: ask("test_elicitation", { message: "Who are you?" }),
    declined: ask("test_elicitation", { message: "Please decline" }),
    sampling: ask("test_sampling", { prompt: "Tell a story" }),
    roots: ask("test_input_required_result_list_roots", {}),
    rounds: ask("test_input_required_result_multi_round", {}),
    parallel: async () => {
      const calls = Array.from({ length: 10 }, () => call("test_simple_text"));
      return new Set((await Promise.all(calls)).map((result) => textOf(result.content))).size;
    },
    read: async () => {
      const read = async (uri) => (await client.readResource({ uri })).contents[0];
      const text = await read("test://static-text");
      const blob = await read("test://static-binary");
      const { uri, ...templated } = await read("test://template/123/data");
      return {
        text: [text.mimeType, Boolean(text.text)],
        blob: [blob.mimeType, Boolean(blob.blob)],
        template: JSON.stringify(templated).includes("123"),
      };
    },
    unknown_resource: () => codeOf(() => client.readResource({ uri: "test://no-such-resource" })),
    resource_update: async () => {
      if (!modern) await client.subscribeResource({ uri: WATCHED });
      const notification = `notifications/resources/updated ${WATCHED}`;
      await told({ resourceSubscriptions: [WATCHED] }, "update_watched_resource", notification);
      if (!modern) await client.unsubscribeResource({ uri: WATCHED });
      return WATCHED;
    },
    prompt: async () => {
      const args = { arg1: "alpha", arg2: "beta" };
      const result = await client.getPrompt({
        name: "test_prompt_with_arguments",
        arguments: args,
      });
      return textOf(result.messages.map((message) => message.content));
    },
    prompt_that_asks: async () => {
      seen.clear();
      const result = await client.getPrompt({ name: "test_input_required_result_prompt" });
      const text = textOf(result.messages.map((message) => message.content));
      return { asked: seen.asked.length, text };
    },
    completion: async () => {
      const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
      const result = await client.complete({ ref, argument: { name: "arg1", value: "a" } });
      return result.completion.values;
    },
    cancellation: async () => {
      const before = await cancellations();
      const given_up = new AbortController();
      const options = { signal: given_up.signal };
      const ended = call("slow_cancellable", { seconds: 30 }, options).then(
        () => "answered",
        () => "given up",
      );
      await sleep(500);
      given_up.abort("given up");
      if ((await ended) !== "given up") throw new Error("the call was answered");
      let after = before;
      for (let round = 0; round < 50 && after === before; round += 1) {
        await sleep(100);
        after = await cancellations();
      }
      return after - before;
    },
    list_changed: async () => {
      const notification = "notifications/tools/list_changed";
      await told({ toolsListChanged: true }, "test_trigger_tool_change", notification);
      return "ToolsListChanged";
    },
  };
};

/** Walk through the features; `cannot` says why this client lacks some. Prints the report. */
export const report = async (name, client, seen, cannot = {}) => {
  const features = {};
  for (const [feature, run] of Object.entries(story(client, seen))) {
    if (feature in cannot) {
      features[feature] = { cannot: cannot[feature] };
      continue;
    }
    const late = AbortSignal.timeout(FEATURE_WITHIN_MS);
    const timeout = new Promise((_, reject) => {
      late.onabort = () => reject(new Error(`no end after ${FEATURE_WITHIN_MS} ms`));
    });
    try {
      features[feature] = { value: await Promise.race([run(), timeout]) };
    } catch (error) {
      features[feature] = { error: `${error}\n${error.stack}` };
    }
    late.onabort = null;
  }
  console.log(JSON.stringify({ client: name, features }));
};
