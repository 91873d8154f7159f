// The demo page's other way to compute: by the service that it came from, wav2small serve. Files go there by HTTP, the microphone by a WebSocket.
import { openMicrophone } from "./wav2small.js";

const address = (path) => new URL(`v1/${path}`, import.meta.url); // a worklet has no URL
const HOP_DUR = 0.5;
const MAX_RATE = 48000;
const CHUNK = 2048;

/** Whether the page came from a service, and whether that needs a key. */
export async function service() {
  try {
    const { status, headers } = await fetch(address("models"));
    return { isThere: headers.has("x-request-id"), needsKey: status === 401 };
  } catch { return { isThere: false, needsKey: false }; }
}

/** Rows of a file: events of a window every half second, and one for the whole file; each {start, end, emotion, speechRatio}. */
export async function predictFile(file, key) {
  return { events: await rows(file, key, { hop: HOP_DUR }), whole: (await rows(file, key, {}))[0] };
}

async function rows(file, key, fields) {
  const body = new FormData();
  body.append("file", file);
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  const response = await fetch(address("audio/emotion"), { method: "POST", body, headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const content = await response.json();
  if (!response.ok) throw new Error(`${file.name}: ${content.message}`);
  return content.rows.map(({ start, end, arousal, dominance, valence, speech, speech_ratio }) => (
    { start, end, emotion: speech ? { arousal, dominance, valence } : null, speechRatio: speech_ratio }));
}

/**
 * A live session from the microphone. onEvent gets {start, end, emotion, speechRatio, delay, change}: delay is the seconds from the audio's end to
 * the answer. A window without speech has no answer: the event of the next one is preceded by one without emotion. Resolves to a function that
 * stops; onEnd is called with the reason if it ends otherwise.
 */
export async function listenRemote(onEvent, { key, onEnd = () => {} } = {}) {
  const session = address("emotion/realtime");
  session.protocol = session.protocol.replace("http", "ws");
  let socket, error = null, began = 0, last = 0, isEnding = false;
  const send = ({ data, dur }) => {
    if (socket?.readyState !== WebSocket.OPEN) return;
    began ||= performance.now() / 1000 - dur;
    socket.send(data);
  };
  let rate = 0;
  const endMicrophone = await openMicrophone({
    worklet: new URL("remote.js", import.meta.url), name: "samples", onMessage: send, onEnd: (reason) => finish(reason),
    onOpen: (context) => { rate = context.sampleRate; },
  });
  const finish = (reason) => {
    if (isEnding) return;
    isEnding = true;
    endMicrophone();
    socket.close();
    onEnd(reason);
  };
  if (rate > MAX_RATE) {
    await endMicrophone();
    throw new Error(`The microphone has ${rate} Hz, and a service takes at most ${MAX_RATE}; compute in this page`);
  }
  socket = new WebSocket(session, key ? ["bearer", key] : []);
  const take = (message) => {
    if (message.type === "error") error = message.message;
    if (message.type !== "measurement.result" || message.trigger !== "interval") return;
    const start = message.audio_start_ms / 1000, end = message.audio_end_ms / 1000;
    if (last && end - last > 1.5 * HOP_DUR) onEvent({ start: last, end: end - HOP_DUR, emotion: null, speechRatio: 0, delay: null });
    last = end;
    const delay = Math.max(0, performance.now() / 1000 - began - end);
    onEvent({ start, end, emotion: message.dimensions, speechRatio: message.speech_ratio, delay, change: message.change ?? null });
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => { endMicrophone(); reject(new Error("The service refused the session; check the key, or try later")); };
  });
  socket.onmessage = ({ data }) => take(JSON.parse(data));
  socket.onclose = () => finish(error ?? "The service ended the session");
  socket.send(JSON.stringify({ type: "session.update", session: { sample_rate: rate, hop: HOP_DUR, baseline: true } }));
  return async () => {
    isEnding = true;
    await endMicrophone();
    socket.close();
  };
}

/** In an AudioWorklet, registers the processor "samples", which posts {data, dur}: int16 and its seconds. */
if (globalThis.AudioWorkletProcessor) {
  registerProcessor("samples", class extends AudioWorkletProcessor {
    #chunk = new Int16Array(CHUNK);
    #length = 0;

    process([[samples]]) {
      for (const sample of samples ?? []) {
        this.#chunk[this.#length++] = Math.max(-32768, Math.min(32767, Math.round(32768 * sample)));
        if (this.#length < CHUNK) continue;
        const data = this.#chunk.buffer;
        this.port.postMessage({ data, dur: CHUNK / sampleRate }, [data]);
        [this.#chunk, this.#length] = [new Int16Array(CHUNK), 0];
      }
      return true;
    }
  });
}
