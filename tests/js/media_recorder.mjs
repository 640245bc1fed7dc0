// A page in Chromium records a microphone, which plays FILE, for SECONDS, and sends it as a browser would:
// `node media_recorder.mjs URL KEY FILE SECONDS` prints what came, as JSON.
import { chromium } from "playwright-core";

const [url, key, file, seconds] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    `--use-file-for-fake-audio-capture=${file}%noloop`,
  ],
});
try {
  const page = await browser.newPage();
  await page.goto(`${url}/health`);
  const came = await page.evaluate(record, { key, milliseconds: 1000 * Number(seconds) });
  console.log(JSON.stringify(came));
} finally {
  await browser.close();
}

/** Runs in the page. */
async function record({ key, milliseconds }) {
  const place = location.origin.replace("http", "ws") + "/v1/listen?interim_results=true&punctuate=true";
  const socket = new WebSocket(place, ["token", key]);
  const messages = [];
  socket.onmessage = (event) => messages.push(JSON.parse(event.data));
  const ended = new Promise((resolve) => (socket.onclose = (event) => resolve([event.code, event.reason])));
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("the socket did not open"));
  });
  const constraints = { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } };
  const microphone = await navigator.mediaDevices.getUserMedia(constraints);
  const recorder = new MediaRecorder(microphone, { mimeType: "audio/webm;codecs=opus" });
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.ondataavailable = (event) => event.data.size && socket.send(event.data);
  recorder.start(250);
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  recorder.stop();
  await stopped;
  socket.send(JSON.stringify({ type: "CloseStream" }));
  return { protocol: socket.protocol, messages, close: await ended };
}
