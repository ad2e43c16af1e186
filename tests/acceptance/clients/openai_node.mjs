// The official client for Node: `openai_node.mjs BASE_URL`. Timeouts of 3 s where it streams: there they count silence.
// Asks one question in each way, all at the same time; prints a JSON object {case: answer}.
import OpenAI from "openai";

const baseURL = process.argv[2];
const patient = new OpenAI({ baseURL, apiKey: "none" });
const hasty = new OpenAI({ baseURL, apiKey: "none", timeout: 3000 });
const asked = (name) => ({ model: "sim-small", messages: [{ role: "user", content: `Who asks? openai-node ${name}.` }] });

async function streamed(client, name, options) {
  const chunks = await client.chat.completions.create({ ...asked(name), stream: true }, options);
  let text = "";
  for await (const chunk of chunks) text += chunk.choices[0].delta.content ?? "";
  return text;
}

const calls = {
  "client timeout stream": streamed(hasty, "client timeout stream"),
  "call timeout stream": streamed(patient, "call timeout stream", { timeout: 3000 }),
  "default": patient.chat.completions.create(asked("default")).then((answer) => answer.choices[0].message.content),
};
const answers = {};
await Promise.all(
  Object.entries(calls).map(([name, call]) =>
    call.then((text) => (answers[name] = text), (error) => (answers[name] = String(error.stack ?? error))),
  ),
);
console.log(JSON.stringify(answers));
