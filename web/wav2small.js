// Arousal, dominance and valence of speech, by the C runtime as WebAssembly, for pages, workers, node and AudioWorklets.

const ERRORS = {
  "-1": "the stream was not initialised", "-2": "push after finish; call reset() first",
  "-3": "a negative length, or a number of parts out of range", "-5": "wav2small.wasm has another version",
};
const TOO_SHORT = -4;
const DIMENSIONS = ["arousal", "dominance", "valence"];
const TEXTS = ["name", "version", "precision", "licence", "teacher", "trainingData", "sha256"];

/** Load the model from a URL or bytes; by default from wav2small.wasm next to this file. */
export async function load(source = new URL("wav2small.wasm", import.meta.url)) {
  return new Wav2Small(await WebAssembly.compile(await bytesOf(source)));
}

/** Content of a URL. A worklet cannot fetch, so the page passes it these bytes. */
export async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const response = await fetch(source);
  if (!response.ok) throw new Error(`${source}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

/** One stream: push samples, read the prediction. */
export class Wav2Small {
  #wasm;
  #resamplers = new Map();

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

  /** Process mono samples at samplingRate, in chunks of any size: floats in [-1, 1] or int16. Returns the number of completed tokens. */
  push(samples) {
    const isFloat = isFloats(samples);
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

  /** Prediction for all samples since reset(), or for the last parts; null before the first token. */
  read(parts) {
    const wasm = this.#wasm;
    const code = parts === undefined ? wasm.read() : wasm.read_window(parts);
    if (code === TOO_SHORT) return null;
    checked(code);
    const [arousal, dominance, valence] = new Float32Array(wasm.memory.buffer, wasm.emotion(), 3);
    return { arousal, dominance, valence };
  }

  /** Start a new part; following tokens belong to it. */
  mark() { checked(this.#wasm.mark()); }

  /** End the stream; a signal shorter than one window is zero-padded. Returns the number of completed tokens. */
  finish() { return checked(this.#wasm.finish()); }

  /** Return to the initial state. */
  reset() { checked(this.#wasm.reset()); }

  /** Resampler from another rate to the model's: push the results of its push(samples) and finish() here. There is one per rate; this resets it. */
  resampler(samplingRate) {
    if (samplingRate === this.samplingRate) return new Same();
    if (!this.#resamplers.has(samplingRate)) this.#resamplers.set(samplingRate, new Resampler(this.#wasm, samplingRate, this.samplingRate));
    const resampler = this.#resamplers.get(samplingRate);
    resampler.reset();
    return resampler;
  }

  #text(start) {
    const bytes = new Uint8Array(this.#wasm.memory.buffer, start);
    return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
  }
}

function isFloats(samples) {
  if (samples instanceof Float32Array || samples instanceof Int16Array) return samples instanceof Float32Array;
  throw new TypeError("push needs a Float32Array or an Int16Array");
}

/** Seconds between the events of a Live, and the length of an event's window in parts. */
export const PART_DUR = 0.5;
export const PARTS = 6;

/** A stream with an event every half second for the last three seconds, independent of chunk sizes. The emotion is null if there is too little speech. */
export class Live {
  #meter;
  #resampler;
  #received;
  #computeDur;

  constructor(model, samplingRate = model.samplingRate) {
    this.model = model;
    this.#resampler = model.resampler(samplingRate);
    this.partLength = PART_DUR * model.samplingRate;
    this.reset();
  }

  /** Process mono samples at samplingRate, in chunks of any size: floats in [-1, 1] or int16. Returns the completed events. */
  push(samples) {
    const floats = isFloats(samples) ? samples : Float32Array.from(samples, (sample) => sample / 2 ** 15);
    return this.#process(this.#timed(() => this.#resampler.push(floats)));
  }

  /** End the stream. Returns the remaining events. */
  finish() {
    const events = this.#process(this.#timed(() => this.#resampler.finish()));
    this.#timed(() => { this.model.finish(); this.#meter.finish(); });
    return this.#received % this.partLength === 0 ? events : [...events, this.#event()];
  }

  /** Return to the initial state. */
  reset() {
    this.model.reset();
    this.#meter = new SpeechMeter(this.model.speech);
    this.#resampler.reset();
    this.#received = 0;
    this.#computeDur = 0;
  }

  #process(signal) {
    const events = [];
    for (let from = 0; from < signal.length;) {
      const piece = signal.subarray(from, from + this.partLength - this.#received % this.partLength);
      this.#timed(() => { this.model.push(piece); this.#meter.push(piece); });
      this.#received += piece.length;
      from += piece.length;
      if (this.#received % this.partLength === 0) {
        events.push(this.#event());
        this.model.mark();
      }
    }
    return events;
  }

  #event() {
    const end = this.#received;
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
    const now = () => globalThis.performance?.now() ?? 0; // a worklet has no performance clock, and its Date has a resolution of a millisecond
    const begun = now();
    const result = work();
    this.#computeDur += (now() - begun) / 1000;
    return result;
  }
}

/** Share of speech by signal level, the rule of Python's audio/vad.py. It separates silence from sound, not speech from noise. */
export class SpeechMeter {
  #frames = [];
  #frame;
  #filled = 0;
  #received = 0;

  constructor(rule) {
    this.rule = rule;
    this.#frame = new Float32Array(rule.frameLength);
  }

  /** Process floats in [-1, 1]. */
  push(samples) {
    for (const sample of samples) {
      this.#frame[this.#filled++] = sample;
      if (this.#filled === this.#frame.length) this.#close();
    }
  }

  /** End the stream; the remaining samples form a shorter frame. */
  finish() { if (this.#filled) this.#close(); }

  /** Share of speech in the frames from sample start to sample end; earlier frames are discarded. */
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

  /** Whether a window has enough speech for a prediction. Windows shorter than wholeDur need proportionally less. */
  isEnough(ratio, length, wholeDur) {
    const { samplingRate, minDur } = this.rule;
    const dur = length / samplingRate;
    return ratio > 0 && ratio * dur >= minDur * Math.min(1, dur / wholeDur) - 1e-9;
  }

  #close() {
    this.#received += this.#filled;
    this.#frames.push({ end: this.#received, power: power(this.#frame.subarray(0, this.#filled)) });
    this.#filled = 0;
  }
}

/** Seconds of speech before a Baseline is used. */
export const READY_DUR = 20;
const PRIOR_DUR = 20, PRIOR_MEAN = 0.45, PRIOR_SPREAD = 0.12, CLIP = 2, TO_SPREAD = 1.28, MIN_SPREAD = 0.03;

/** What the voice of one speaker is usually like: Python's Baseline (runtime/baseline.py), with its numbers and its file. */
export class Baseline {
  /** about: of the model, such as model.about. forgetDur: seconds of speech after which older speech counts less; null never forgets. */
  constructor({ about = null, forgetDur = null } = {}) {
    this.forgetDur = forgetDur;
    this.speechDur = 0;
    this.mean = byDimension(() => PRIOR_MEAN);
    this.spread = byDimension(() => PRIOR_SPREAD);
    this.isEnrolled = false;
    this.weights = about ? weightsName(about) : "";
    this.sha256 = about ? about.sha256 : "";
  }

  /** Whether there are READY_DUR seconds of speech, or wav2small enroll recorded it. */
  get isReady() { return this.isEnrolled || this.speechDur >= READY_DUR; }

  /** Include an emotion with speechDur seconds of speech that no earlier one included. */
  add(emotion, speechDur) {
    this.speechDur += speechDur;
    const rate = Math.min(1, speechDur / (PRIOR_DUR + Math.min(this.speechDur, this.forgetDur ?? Infinity)));
    for (const name of DIMENSIONS) {
      const most = CLIP * unitOf(this.spread[name]);
      const step = Math.min(most, Math.max(-most, emotion[name] - this.mean[name]));
      this.mean[name] += rate * step;
      this.spread[name] += rate * (TO_SPREAD * Math.abs(step) - this.spread[name]);
    }
  }

  /** How far an emotion is from the mean of each dimension, in units of the speaker's spread. */
  deviation(emotion) { return byDimension((name) => (emotion[name] - this.mean[name]) / unitOf(this.spread[name])); }

  /** The content of a file as wav2small enroll writes it, for JSON.stringify. */
  toJSON() {
    return {
      wav2small: "baseline", weights: this.weights, sha256: this.sha256, is_calibrated: false, is_enrolled: this.isEnrolled,
      speech_dur: this.speechDur, forget_dur: this.forgetDur, mean: { ...this.mean }, spread: { ...this.spread },
    };
  }

  /** The reverse, with the result of JSON.parse. It throws if the baseline is of another model than about, if given, or calibrated. */
  static fromJSON(content, about = null) {
    const { mean, spread, speech_dur: speechDur, forget_dur: forgetDur } = content ?? {};
    const numbers = [speechDur, forgetDur ?? 0, ...DIMENSIONS.flatMap((name) => [mean?.[name], spread?.[name]])];
    if (content?.wav2small !== "baseline" || !numbers.every(Number.isFinite) || DIMENSIONS.some((name) => spread[name] < 0))
      throw new TypeError("This is not a baseline that wav2small wrote");
    if (content.is_calibrated) throw new Error("The baseline is of answers with a calibration; enroll again without --calibrated");
    if (about && content.weights && content.weights !== weightsName(about))
      throw new Error(`The baseline is of ${content.weights}, the model is ${weightsName(about)}; enroll again with this model`);
    const baseline = new Baseline({ about, forgetDur: forgetDur ?? null });
    Object.assign(baseline, { speechDur, isEnrolled: content.is_enrolled === true });
    if (content.weights) Object.assign(baseline, { weights: content.weights, sha256: content.sha256 });
    for (const name of DIMENSIONS) [baseline.mean[name], baseline.spread[name]] = [mean[name], spread[name]];
    return baseline;
  }
}

function byDimension(value) { return Object.fromEntries(DIMENSIONS.map((name) => [name, value(name)])); }

/** Unit of a deviation. */
function unitOf(spread) { return Math.max(spread, MIN_SPREAD); }

function weightsName({ name, version, precision }) { return [name, version, precision].filter(Boolean).join(" "); }

const CROSSINGS = 24;
const CUTOFF = 0.94;
const KAISER = 5.65;
const PAGE = 2 ** 16;

/** Resampler to the model's rate, independent of chunk sizes: a Kaiser-windowed sinc, 60 dB attenuation above half of the lower rate. */
class Resampler {
  #wasm;
  #weights;
  #isKnown;
  #step;
  #kept;
  #keptFrom;
  #made;

  constructor(wasm, from, to) {
    if (!(Number.isInteger(from) && from >= 4000 && from <= 384000))
      throw new RangeError(`sampling rate ${from}: must be an integer from 4000 to 384000 Hz`);
    this.#wasm = wasm;
    this.from = from;
    this.to = to;
    this.reach = 2 * Math.ceil(CROSSINGS * Math.max(1, from / to) / 2);
    this.#step = divisor(from, to);
    this.#isKnown = new Uint8Array(to / this.#step);
    this.#weights = wasm.memory.grow(Math.ceil(this.#isKnown.length * 8 * this.reach / PAGE)) * PAGE;
    this.reset();
  }

  reset() {
    this.#kept = new Float32Array(this.reach); // silence before
    this.#keptFrom = -this.reach;
    this.#made = 0;
  }

  /** Returns the new samples that can be computed so far. */
  push(samples) {
    const length = this.#wasm.buffer_length() / 2;
    const received = this.#keptFrom + this.#kept.length + samples.length;
    const made = new Float32Array(this.#count(Math.ceil((received - this.reach) * this.to / this.from)));
    let at = 0;
    for (let start = 0; start < samples.length; start += length) at += this.#make(samples.subarray(start, start + length), made.subarray(at));
    return made;
  }

  /** End the stream; it continues with silence. */
  finish() {
    const made = new Float32Array(this.#count(Math.round((this.#keptFrom + this.#kept.length) * this.to / this.from)));
    this.#make(new Float32Array(this.reach + 1), made);
    return made;
  }

  #count(end) { return Math.max(0, end - this.#made); }

  /** Compute as many new samples as fit and the input allows; returns their number. */
  #make(samples, made) {
    const wasm = this.#wasm;
    const buffer = new Float32Array(wasm.memory.buffer, wasm.buffer(), this.#kept.length + samples.length);
    buffer.set(this.#kept);
    buffer.set(samples, this.#kept.length);
    const end = this.#keptFrom + buffer.length;
    let at = 0, first = 0;
    for (;; at++) {
      const phase = this.#made * this.from % this.to;
      first = (this.#made * this.from - phase) / this.to - this.reach + 1 - this.#keptFrom;
      if (at >= made.length || this.#keptFrom + first + 2 * this.reach > end) break;
      made[at] = wasm.dot(this.#weightsOf(phase), first, 2 * this.reach);
      this.#made++;
    }
    first = Math.min(first, buffer.length);
    this.#kept = buffer.slice(first);
    this.#keptFrom += first;
    return at;
  }

  /** Address of the weights of the old samples around a new one that is phase / to after one of them. */
  #weightsOf(phase) {
    const which = phase / this.#step;
    const start = this.#weights + which * 8 * this.reach;
    if (this.#isKnown[which]) return start;
    this.#isKnown[which] = 1;
    const scale = CUTOFF * Math.min(1, this.to / this.from);
    const weights = new Float32Array(this.#wasm.memory.buffer, start, 2 * this.reach);
    for (let tap = 0; tap < weights.length; tap++) {
      const behind = tap + 1 - this.reach - phase / this.to;
      const x = Math.PI * scale * behind;
      weights[tap] = scale * (x === 0 ? 1 : Math.sin(x) / x) * kaiser(behind / this.reach);
    }
    return start;
  }
}

/** Resampler for equal rates. */
class Same {
  push(samples) { return samples; }
  finish() { return new Float32Array(0); }
  reset() {}
}

function divisor(a, b) { return b === 0 ? a : divisor(b, a % b); }

function kaiser(share) { return bessel(KAISER * Math.sqrt(Math.max(0, 1 - share * share))) / bessel(KAISER); }

/** The modified Bessel function of the first kind and order zero. */
function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-9 * sum; k++) sum += term *= (x / 2 / k) ** 2;
  return sum;
}

/**
 * Predict from the microphone, with this file as an AudioWorklet. onEvent is called with the events of a Live. Resolves to a
 * function that stops it. It needs https or localhost and the user's permission. onEnd is called with the reason if it stops otherwise.
 */
export async function listen(onEvent, { source, worklet = new URL("wav2small.js", import.meta.url), onEnd = () => {} } = {}) {
  const bytes = await bytesOf(source ?? new URL("wav2small.wasm", import.meta.url));
  return openMicrophone({ worklet, name: "wav2small", processorOptions: { bytes }, onMessage: onEvent, onEnd });
}

/**
 * Connect the microphone with a processor of an AudioWorklet, whose messages go to onMessage. onOpen gets the AudioContext. Resolves to a function
 * that stops it; onEnd is called with the reason if it stops otherwise.
 */
export async function openMicrophone({ worklet, name, processorOptions = {}, onMessage, onEnd = () => {}, onOpen = () => {} }) {
  if (!globalThis.navigator?.mediaDevices) throw new Error("The microphone needs a page served over https or from localhost");
  const context = new AudioContext(); // at the microphone's rate, which Firefox requires
  let tracks = [];
  const end = async () => {
    tracks.forEach((track) => track.stop());
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule(worklet);
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const media = await navigator.mediaDevices.getUserMedia({ audio }).catch(refused);
    tracks = media.getTracks();
    const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    const node = new AudioWorkletNode(context, name, { ...mono, processorOptions });
    const ended = (reason) => { end(); onEnd(reason); };
    node.onprocessorerror = () => ended("The audio worklet failed");
    tracks[0].onended = () => ended("The microphone was disconnected");
    node.port.onmessage = ({ data }) => onMessage(data);
    onOpen(context);
    context.createMediaStreamSource(media).connect(node);
    context.resume(); // suspended initially in Safari
    return end;
  } catch (error) {
    await end();
    throw error;
  }
}

function refused(error) {
  const reasons = {
    NotAllowedError: "The microphone is blocked; allow it for this page in the browser's settings",
    NotFoundError: "There is no microphone; connect one, or choose a file", NotReadableError: "Another program uses the microphone; close it there",
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

/** In an AudioWorklet, registers the processor "wav2small", which posts the events of a Live; processorOptions: {bytes} of the wasm. */
if (globalThis.AudioWorkletProcessor) {
  registerProcessor("wav2small", class extends AudioWorkletProcessor {
    constructor({ processorOptions }) {
      super();
      this.live = new Live(new Wav2Small(new WebAssembly.Module(processorOptions.bytes)), sampleRate);
    }

    process([[samples]]) {
      if (samples) this.live.push(samples).forEach((event) => this.port.postMessage(event));
      return true;
    }
  });
}
