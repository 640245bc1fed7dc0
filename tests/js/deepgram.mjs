// Deepgram's SDK, unmodified: `node deepgram.mjs URL KEY live|recorded FILE QUERY` prints what came, as JSON.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { DeepgramClient } from "@deepgram/sdk";

const CHUNK_BYTES = 3200;

const [url, apiKey, form, file, query] = process.argv.slice(2);
const client = new DeepgramClient({ apiKey, baseUrl: url });
const audio = await readFile(file);
const asked = { model: "nova-3", ...JSON.parse(query) };

async function live() {
  const connection = await client.listen.v1.connect({ Authorization: apiKey, ...asked });
  const messages = [];
  const ended = new Promise((resolve) => connection.on("close", resolve));
  connection.on("message", (message) => messages.push(message));
  connection.connect();
  await connection.waitForOpen();
  for (let at = 0; at < audio.length; at += CHUNK_BYTES) {
    connection.sendMedia(audio.subarray(at, at + CHUNK_BYTES));
    await sleep(10);
  }
  connection.sendCloseStream({ type: "CloseStream" });
  await ended;
  return messages;
}

const came = form === "live" ? await live() : await client.listen.v1.media.transcribeFile(audio, asked);
console.log(JSON.stringify(came));
process.exit(0);
