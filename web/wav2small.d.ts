/** Prediction; nominally 0 to 1, not clipped. */
export interface Emotion { arousal: number; dominance: number; valence: number }
export interface About {
  name: string; version: string; precision: string; licence: string; teacher: string; trainingData: string;
  /** sha256 of the weights. */
  sha256: string;
}
/** Speech detection by level: Hz, samples of a frame, dB re full scale, dB re the loudest tenth, seconds, seconds. */
export interface SpeechRule {
  samplingRate: number; frameLength: number; level: number; pauseLevel: number; minDur: number; fileDur: number;
}
export interface EmotionEvent {
  /** Window of the prediction, in seconds. */
  start: number; end: number;
  /** null if the window contains too little speech. */
  emotion: Emotion | null;
  /** Share of speech in the window, 0 to 1. */
  speechRatio: number;
  /** Computation time since the previous event, in seconds; null in an AudioWorklet without a clock. */
  computeDur: number | null;
}
export interface ListenOptions {
  /** The wasm; by default wav2small.wasm next to wav2small.js. */
  source?: Source;
  /** URL of wav2small.js as a separate file, if a bundler has merged it into another file. */
  worklet?: string | URL;
  /** Called with the reason if recording stops without a call of the returned function. */
  onEnd?: (reason: string) => void;
}
/** URL or bytes; in node also a path. */
export type Source = string | URL | ArrayBuffer | ArrayBufferView;

/** Seconds between the events of a Live. */
export const PART_DUR: number;
/** Length of the window of an event, in units of PART_DUR. */
export const PARTS: number;

/** Seconds of speech before a Baseline is used. */
export const READY_DUR: number;

export function load(source?: Source): Promise<Wav2Small>;
export function bytesOf(source: Source): Promise<ArrayBuffer | ArrayBufferView>;
/** Predict from the microphone. Resolves to a function that stops it. */
export function listen(onEvent: (event: EmotionEvent) => void, options?: ListenOptions): Promise<() => Promise<void>>;

/** Connect the microphone with a processor of your own AudioWorklet; its messages go to onMessage. Resolves to a function that stops it. */
export function openMicrophone(options: {
  worklet: string | URL;
  name: string;
  processorOptions?: unknown;
  onMessage: (message: any) => void;
  onEnd?: (reason: string) => void;
  onOpen?: (context: AudioContext) => void;
}): Promise<() => Promise<void>>;

export class Wav2Small {
  constructor(module: WebAssembly.Module);
  readonly samplingRate: number;
  readonly hopLength: number;
  readonly winLength: number;
  /** Largest argument of read(parts). */
  readonly parts: number;
  readonly about: About;
  readonly speech: SpeechRule;
  push(samples: Float32Array | Int16Array): number;
  read(parts?: number): Emotion | null;
  mark(): void;
  finish(): number;
  reset(): void;
  /** Resampler from another rate in Hz to the model's. There is one per rate; this resets it. */
  resampler(samplingRate: number): Resampler;
}

export class Live {
  /** samplingRate: rate of the pushed samples in Hz; by default the model's. */
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

/** The file of a baseline, which the Python package reads and writes too. */
export interface BaselineFile {
  wav2small: "baseline";
  /** Name, version and precision of the model; "" before it is known. */
  weights: string;
  sha256: string;
  is_calibrated: boolean;
  is_enrolled: boolean;
  speech_dur: number;
  forget_dur: number | null;
  mean: Emotion;
  spread: Emotion;
}

/** What the voice of one speaker is usually like. It starts as an average speaker and moves towards this one. */
export class Baseline {
  /** about: model.about. forgetDur: seconds of speech after which older speech counts less; null, the default, never forgets. */
  constructor(options?: { about?: About | null; forgetDur?: number | null });
  readonly forgetDur: number | null;
  /** Seconds of speech so far. */
  readonly speechDur: number;
  readonly mean: Emotion;
  /** As a standard deviation. */
  readonly spread: Emotion;
  /** Whether wav2small enroll recorded it. */
  readonly isEnrolled: boolean;
  readonly weights: string;
  readonly sha256: string;
  /** Whether it is enrolled or has READY_DUR seconds of speech. */
  readonly isReady: boolean;
  /** speechDur: seconds of speech that no earlier emotion included. */
  add(emotion: Emotion, speechDur: number): void;
  /** Distance from the mean in units of the speaker's spread. */
  deviation(emotion: Emotion): Emotion;
  toJSON(): BaselineFile;
  /** content: the result of JSON.parse. Throws if it is not a baseline, or one of another model. */
  static fromJSON(content: unknown, about?: About | null): Baseline;
}
