// Vercel's AI SDK as it comes: `ai_sdk.mjs BASE_URL`. Prints a JSON object {case: answer}.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const provider = createOpenAICompatible({ name: "batchway", baseURL: process.argv[2], apiKey: "none" });
const model = provider("sim-small");
const prompt = (name) => `Who asks? ai-sdk ${name}.`;

async function streamed(name) {
  let text = "";
  for await (const part of streamText({ model, prompt: prompt(name) }).textStream) text += part;
  return text;
}

const calls = {
  "generateText": generateText({ model, prompt: prompt("generateText") }).then((result) => result.text),
  "streamText": streamed("streamText"),
};
const answers = {};
await Promise.all(
  Object.entries(calls).map(([name, call]) =>
    call.then((text) => (answers[name] = text), (error) => (answers[name] = String(error.stack ?? error))),
  ),
);
console.log(JSON.stringify(answers));
