/** Nominally 0 to 1, not clipped. */
export interface Emotion { arousal: number; dominance: number; valence: number }
export interface About {
  name: string; version: string; precision: string; licence: string; teacher: string; trainingData: string;
  /** Of the weights. */
  sha256: string;
}
/** Samples in a frame, and dB re full scale. */
export interface SpeechRule { frameLength: number; level: number }

export function load(source?: string | URL | ArrayBuffer | ArrayBufferView): Promise<Wav2Small>;
export function bytesOf(source: string | URL | ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer | ArrayBufferView>;

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
}

export class Loudness {
  constructor(rule: SpeechRule, latest?: number);
  push(samples: Float32Array): void;
  isSpeech(): boolean;
}
