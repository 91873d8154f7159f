/** Nominally 0 to 1, not clipped. */
export interface Emotion { arousal: number; dominance: number; valence: number }
export interface About {
  name: string; version: string; precision: string; licence: string; teacher: string; trainingData: string;
  /** Of the weights. */
  sha256: string;
}
/** Hz, samples in a frame, dB re full scale, dB re the loudest tenth, and seconds. */
export interface SpeechRule {
  samplingRate: number; frameLength: number; level: number; pauseLevel: number; minDur: number; fileDur: number;
}
export interface EmotionEvent {
  /** Seconds. */
  start: number; end: number;
  /** null where too little is speech. */
  emotion: Emotion | null;
  /** The share of speech. */
  speechRatio: number;
  /** Seconds of computing since the event before; null in an AudioWorklet that has no clock. */
  computeDur: number | null;
}
export interface ListenOptions {
  /** Of the wasm; without it, from beside wav2small.js. */
  source?: Source;
  /** Address of wav2small.js as a file of its own, if a bundler has not left it one. */
  worklet?: string | URL;
  /** Called with the reason if listening ends by itself. */
  onEnd?: (reason: string) => void;
}
/** An address, or bytes; in node also a path. */
export type Source = string | URL | ArrayBuffer | ArrayBufferView;

/** Seconds from answer to answer of a Live. */
export const PART_DUR: number;
/** How many of them an answer hears. */
export const PARTS: number;

export function load(source?: Source): Promise<Wav2Small>;
export function bytesOf(source: Source): Promise<ArrayBuffer | ArrayBufferView>;
/** The microphone; gives what ends it. */
export function listen(onEvent: (event: EmotionEvent) => void, options?: ListenOptions): Promise<() => Promise<void>>;

export class Wav2Small {
  constructor(module: WebAssembly.Module);
  readonly samplingRate: number;
  readonly hopLength: number;
  readonly winLength: number;
  /** The most that read(parts) takes. */
  readonly parts: number;
  readonly about: About;
  readonly speech: SpeechRule;
  push(samples: Float32Array | Int16Array): number;
  read(parts?: number): Emotion | null;
  mark(): void;
  finish(): number;
  reset(): void;
  /** From another rate, Hz, to this one. One for each rate, begun anew. */
  resampler(samplingRate: number): Resampler;
}

export class Live {
  /** samplingRate of what is pushed; without it, the model's. */
  constructor(model: Wav2Small, samplingRate?: number);
  readonly model: Wav2Small;
  push(samples: Float32Array | Int16Array): EmotionEvent[];
  finish(): EmotionEvent[];
  reset(): void;
}

export interface Resampler {
  push(samples: Float32Array): Float32Array;
  finish(): Float32Array;
  reset(): void;
}

export class SpeechMeter {
  constructor(rule: SpeechRule);
  readonly rule: SpeechRule;
  push(samples: Float32Array): void;
  finish(): void;
  ratio(start: number, end: number): number;
  isEnough(ratio: number, length: number, wholeDur: number): boolean;
}
