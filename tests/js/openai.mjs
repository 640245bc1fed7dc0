// OpenAI's SDK, unmodified: `node openai.mjs URL KEY FILE` prints what its HTTP forms answered, as JSON.
import { createReadStream } from "node:fs";

import OpenAI from "openai";

const [url, apiKey, file] = process.argv.slice(2);
const client = new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });

const transcription = await client.audio.transcriptions.create({ model: "whisper-1", file: createReadStream(file) });
const streamed = [];
const events = await client.audio.transcriptions.create({
  model: "whisper-1",
  file: createReadStream(file),
  stream: true,
});
for await (const event of events) streamed.push(event);
const speech = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Hello there." });
const models = await client.models.list();
const refused = await client.audio.transcriptions
  .create({ model: "whisper-1", file: createReadStream(file), response_format: "yaml" })
  .catch((error) => ({ status: error.status, param: error.param, message: error.message }));
console.log(
  JSON.stringify({
    text: transcription.text,
    streamed,
    speech_bytes: (await speech.arrayBuffer()).byteLength,
    models: models.data.map((model) => model.id),
    refused,
  }),
);
