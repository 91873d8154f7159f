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
    this.speech = {
      samplingRate: this.samplingRate, frameLength: wasm.speech_frame(), level: wasm.speech_level(), pauseLevel: wasm.pause_level(),
      minDur: wasm.min_speech_dur(), fileDur: wasm.file_dur(),
    };
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

/** Seconds from answer to answer of a Live, and how many of them an answer hears. */
export const PART_DUR = 0.5;
export const PARTS = 6;

/** A stream that answers every half second for the latest three, the same in any cutting; where too little is speech, with null. */
export class Live {
  #meter;
  #resampler;
  #heard;
  #computeDur;

  constructor(model, samplingRate = model.samplingRate) {
    this.model = model;
    this.samplingRate = samplingRate;
    this.partLength = PART_DUR * model.samplingRate;
    this.reset();
  }

  /** Samples at samplingRate, mono, in any cutting: floats in -1 to 1, or 16-bit integers. Gives the events completed. */
  push(samples) {
    const floats = samples instanceof Int16Array ? Float32Array.from(samples, (sample) => sample / 2 ** 15) : samples;
    return this.#hear(this.#timed(() => this.#resampler.push(floats)));
  }

  /** The end. Gives the events of what came after the last one. */
  finish() {
    const events = this.#hear(this.#timed(() => this.#resampler.finish()));
    this.#timed(() => { this.model.finish(); this.#meter.finish(); });
    return this.#heard % this.partLength === 0 ? events : [...events, this.#event()];
  }

  /** Forget all that was heard. */
  reset() {
    this.model.reset();
    this.#meter = new SpeechMeter(this.model.speech);
    this.#resampler = new Resampler(this.samplingRate, this.model.samplingRate);
    this.#heard = 0;
    this.#computeDur = 0;
  }

  #hear(signal) {
    const events = [];
    for (let from = 0; from < signal.length;) {
      const piece = signal.subarray(from, from + this.partLength - this.#heard % this.partLength);
      this.#timed(() => { this.model.push(piece); this.#meter.push(piece); });
      this.#heard += piece.length;
      from += piece.length;
      if (this.#heard % this.partLength === 0) {
        events.push(this.#event());
        this.model.mark();
      }
    }
    return events;
  }

  #event() {
    const end = this.#heard;
    const start = Math.max(0, (Math.ceil(end / this.partLength) - PARTS) * this.partLength);
    const { ratio, emotion } = this.#timed(() => {
      const ratio = this.#meter.ratio(start, end);
      return { ratio, emotion: this.#meter.isEnough(ratio, end - start, PARTS * PART_DUR) ? this.model.read(PARTS) : null };
    });
    const computeDur = globalThis.performance ? this.#computeDur : null;
    this.#computeDur = 0;
    const { samplingRate } = this.model;
    return { start: start / samplingRate, end: end / samplingRate, emotion, speechRatio: ratio, computeDur };
  }

  #timed(work) {
    const now = () => globalThis.performance?.now() ?? 0; // a worklet has none; its Date has steps of a millisecond
    const begun = now();
    const result = work();
    this.#computeDur += (now() - begun) / 1000;
    return result;
  }
}

/** How much of what is heard is speech: Python's rule by energy, speech.Energy. It tells silence from sound, not speech from noise. */
export class SpeechMeter {
  #frames = [];
  #frame;
  #filled = 0;
  #heard = 0;

  constructor(rule) {
    this.rule = rule;
    this.#frame = new Float32Array(rule.frameLength);
  }

  /** Floats in -1 to 1. */
  push(samples) {
    for (const sample of samples) {
      this.#frame[this.#filled++] = sample;
      if (this.#filled === this.#frame.length) this.#close();
    }
  }

  /** What is left makes a shorter frame. */
  finish() { if (this.#filled) this.#close(); }

  /** Share of speech in the frames between two samples; the frames before the first one are forgotten. */
  ratio(start, end) {
    this.#frames = this.#frames.filter((frame) => frame.end > start);
    const { frameLength, level, pauseLevel } = this.rule;
    const inside = this.#frames.filter((frame) => frame.end - frameLength >= start && frame.end <= end);
    const powers = (inside.length ? inside : this.#frames).map((frame) => frame.power).sort((a, b) => b - a);
    const loudest = powers.slice(0, Math.max(1, Math.floor(powers.length / 10)));
    const loud = loudest.reduce((sum, power) => sum + power, 0) / loudest.length;
    if (!(loud >= 10 ** (level / 10))) return 0;
    return powers.filter((power) => power >= loud * 10 ** (pauseLevel / 10)).length / powers.length;
  }

  /** Whether so much speech in so many samples is worth an answer; what is shorter than wholeDur needs less in proportion. */
  isEnough(ratio, length, wholeDur) {
    const { samplingRate, minDur } = this.rule;
    const dur = length / samplingRate;
    return ratio > 0 && ratio * dur >= minDur * Math.min(1, dur / wholeDur) - 1e-9;
  }

  #close() {
    this.#heard += this.#filled;
    this.#frames.push({ end: this.#heard, power: power(this.#frame.subarray(0, this.#filled)) });
    this.#filled = 0;
  }
}

const CROSSINGS = 24;
const CUTOFF = 0.94;
const KAISER = 5.65;

/** From one sampling rate to another, the same in any cutting: at each new sample a sinc under a Kaiser window, 60 dB down beyond half of the lower rate. */
export class Resampler {
  #kernels = new Map();
  #kept;
  #keptFrom;
  #made = 0;

  constructor(from, to) {
    this.from = from;
    this.to = to;
    this.reach = 2 * Math.ceil(CROSSINGS * Math.max(1, from / to) / 2);
    this.#kept = new Float64Array(this.reach); // silence before
    this.#keptFrom = -this.reach;
  }

  /** Gives what can be told already. */
  push(samples) {
    if (this.from === this.to) return samples;
    const heard = this.#keptFrom + this.#kept.length + samples.length;
    return this.#make(samples, Math.max(this.#made, Math.ceil((heard - this.reach) * this.to / this.from)));
  }

  /** The end; silence follows. */
  finish() {
    if (this.from === this.to) return new Float32Array(0);
    const total = Math.round((this.#keptFrom + this.#kept.length) * this.to / this.from);
    return this.#make(new Float32Array(this.reach + 1), Math.max(this.#made, total));
  }

  /** New samples up to one of them. */
  #make(samples, end) {
    const kept = new Float64Array(this.#kept.length + samples.length);
    kept.set(this.#kept);
    kept.set(samples, this.#kept.length);
    const made = new Float32Array(end - this.#made);
    for (let at = 0; at < made.length; at++) {
      const phase = (this.#made + at) * this.from % this.to;
      const first = ((this.#made + at) * this.from - phase) / this.to - this.reach + 1 - this.#keptFrom;
      made[at] = dot(this.#kernel(phase), kept, first);
    }
    this.#made = end;
    const keep = Math.max(0, Math.min(kept.length, Math.floor(end * this.from / this.to) - this.reach + 1 - this.#keptFrom));
    this.#kept = kept.slice(keep);
    this.#keptFrom += keep;
    return made;
  }

  /** Weights of the old samples about a new one that is phase / to behind one of them. */
  #kernel(phase) {
    let kernel = this.#kernels.get(phase);
    if (kernel) return kernel;
    const scale = CUTOFF * Math.min(1, this.to / this.from);
    kernel = Float64Array.from({ length: 2 * this.reach }, (_, tap) => {
      const behind = tap + 1 - this.reach - phase / this.to;
      const x = Math.PI * scale * behind;
      return scale * (x === 0 ? 1 : Math.sin(x) / x) * kaiser(behind / this.reach);
    });
    this.#kernels.set(phase, kernel);
    return kernel;
  }
}

/** In four sums, which a processor computes side by side; reach is a multiple of two. */
function dot(kernel, kept, first) {
  let a = 0, b = 0, c = 0, d = 0;
  for (let tap = 0; tap < kernel.length; tap += 4) {
    const at = first + tap;
    a += kernel[tap] * kept[at];
    b += kernel[tap + 1] * kept[at + 1];
    c += kernel[tap + 2] * kept[at + 2];
    d += kernel[tap + 3] * kept[at + 3];
  }
  return a + b + (c + d);
}

function kaiser(share) { return bessel(KAISER * Math.sqrt(Math.max(0, 1 - share * share))) / bessel(KAISER); }

/** The modified Bessel function of the first kind and order zero. */
function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-9 * sum; k++) sum += term *= (x / 2 / k) ** 2;
  return sum;
}

/**
 * The microphone, through an AudioWorklet of this folder: onEvent gets what Live gives. Gives a function that ends it.
 * It needs https or localhost, and the person's leave. onEnd is called if it ends by itself, with the reason.
 */
export async function listen(onEvent, { source, onEnd = () => {} } = {}) {
  if (!globalThis.navigator?.mediaDevices) throw new Error("The microphone needs a page from https or localhost");
  const bytes = await bytesOf(source ?? new URL("wav2small.wasm", import.meta.url));
  const context = new AudioContext(); // at the microphone's rate: Firefox connects no other
  let tracks = [];
  const end = async () => {
    tracks.forEach((track) => track.stop());
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const media = await navigator.mediaDevices.getUserMedia({ audio }).catch(refused);
    tracks = media.getTracks();
    const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    const node = new AudioWorkletNode(context, "wav2small", { ...mono, processorOptions: { bytes } });
    const ended = (reason) => { end(); onEnd(reason); };
    node.onprocessorerror = () => ended("The audio worklet failed");
    tracks[0].onended = () => ended("The microphone was taken away");
    node.port.onmessage = ({ data }) => onEvent(data);
    context.createMediaStreamSource(media).connect(node);
    return end;
  } catch (error) {
    await end();
    throw error;
  }
}

function refused(error) {
  const reasons = {
    NotAllowedError: "The microphone is not allowed here; allow it for this page in the browser's settings",
    NotFoundError: "There is no microphone; connect one, or take a file", NotReadableError: "Another program has the microphone; close it there",
  };
  throw reasons[error.name] ? new Error(reasons[error.name]) : error;
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
