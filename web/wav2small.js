// Arousal, dominance and valence of a voice, from the C runtime as WebAssembly; in a page, a worker, a worklet or node.

const ERRORS = {
  "-1": "the stream was not begun", "-2": "push after finish; reset() begins again",
  "-3": "a length below zero, or more parts than there can be", "-5": "wav2small.wasm is of another version",
};
const TOO_SHORT = -4;
const TEXTS = ["name", "version", "precision", "licence", "teacher", "trainingData", "sha256"];

/** The model from an address or from bytes; without either, from beside this file. */
export async function load(source = new URL("wav2small.wasm", import.meta.url)) {
  return new Wav2Small(await WebAssembly.compile(await bytesOf(source)));
}

/** Bytes of an address; a worklet, which cannot fetch, is given what this gives. */
export async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const response = await fetch(source);
  if (!response.ok) throw new Error(`${source}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

/** One stream: push samples, read the answer. */
export class Wav2Small {
  #wasm;

  constructor(module) {
    this.#wasm = new WebAssembly.Instance(module).exports;
    const wasm = this.#wasm;
    this.samplingRate = wasm.sampling_rate();
    this.hopLength = wasm.hop_length();
    this.winLength = wasm.win_length();
    this.parts = wasm.parts();
    this.about = Object.fromEntries(TEXTS.map((name, which) => [name, this.#text(wasm.text(which))]));
    this.speech = { frameLength: wasm.speech_frame(), level: wasm.speech_decibel() };
    this.reset();
  }

  /** Samples at samplingRate, mono, in any cutting: floats in -1 to 1, or 16-bit integers. Gives the tokens completed. */
  push(samples) {
    const isFloat = samples instanceof Float32Array;
    if (!isFloat && !(samples instanceof Int16Array)) throw new TypeError("push takes a Float32Array or an Int16Array");
    const wasm = this.#wasm;
    const length = wasm.buffer_length();
    const buffer = new samples.constructor(wasm.memory.buffer, wasm.buffer(), length);
    let tokens = 0;
    for (let start = 0; start < samples.length; start += length) {
      const piece = samples.subarray(start, start + length);
      buffer.set(piece);
      tokens += checked(isFloat ? wasm.push_float(piece.length) : wasm.push_int16(piece.length));
    }
    return tokens;
  }

  /** The answer for all since reset(), or for the tokens of the latest parts; null as long as there is none. */
  read(parts) {
    const wasm = this.#wasm;
    const code = parts === undefined ? wasm.read() : wasm.read_window(parts);
    if (code === TOO_SHORT) return null;
    checked(code);
    const [arousal, dominance, valence] = new Float32Array(wasm.memory.buffer, wasm.emotion(), 3);
    return { arousal, dominance, valence };
  }

  /** Tokens from now on are of a new part. */
  mark() { checked(this.#wasm.mark()); }

  /** The end: less than one window is padded with zeros. */
  finish() { return checked(this.#wasm.finish()); }

  /** Forget all that was heard. */
  reset() { checked(this.#wasm.reset()); }

  #text(start) {
    const bytes = new Uint8Array(this.#wasm.memory.buffer, start);
    return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
  }
}

/** Whether there is anything to hear: the rule of Python's audio.is_speech, over the latest frames or over all. */
export class Loudness {
  #powers = [];
  #frame;
  #filled = 0;

  constructor({ frameLength, level }, latest = Infinity) {
    this.#frame = new Float32Array(frameLength);
    this.threshold = 10 ** (level / 10);
    this.latest = latest;
  }

  push(samples) {
    for (const sample of samples) {
      this.#frame[this.#filled++] = sample;
      if (this.#filled < this.#frame.length) continue;
      this.#filled = 0;
      this.#powers.push(power(this.#frame));
      if (this.#powers.length > this.latest) this.#powers.shift();
    }
  }

  isSpeech() {
    const sorted = [...this.#powers].sort((a, b) => b - a);
    const loud = sorted.slice(0, Math.max(1, Math.floor(sorted.length / 10)));
    return loud.length > 0 && loud.reduce((sum, value) => sum + value, 0) / loud.length >= this.threshold;
  }
}

function power(frame) {
  let mean = 0, sum = 0;
  for (const sample of frame) mean += sample / frame.length;
  for (const sample of frame) sum += (sample - mean) ** 2;
  return sum / frame.length;
}

function checked(code) {
  if (code < 0) throw new Error(`wav2small: ${ERRORS[code] ?? `error ${code}`}`);
  return code;
}
