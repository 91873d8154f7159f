// AudioWorklet "wav2small": posts an answer every half second, for the latest three; processorOptions: {bytes}.
import { Loudness, Wav2Small } from "./wav2small.js";

const PART_DUR = 0.5;
const PARTS = 6;

class Processor extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.model = new Wav2Small(new WebAssembly.Module(processorOptions.bytes));
    const { samplingRate, speech } = this.model;
    if (sampleRate !== samplingRate) throw new Error(`the AudioContext has ${sampleRate} Hz, the model ${samplingRate}`);
    this.loudness = new Loudness(speech, Math.round(PARTS * PART_DUR * samplingRate / speech.frameLength));
    this.samples = 0;
    this.left = PART_DUR * samplingRate;
  }

  process([[samples]]) {
    if (!samples) return true;
    this.model.push(samples);
    this.loudness.push(samples);
    this.samples += samples.length;
    this.left -= samples.length;
    if (this.left <= 0) {
      this.left += PART_DUR * sampleRate;
      this.port.postMessage({
        time: this.samples / sampleRate, emotion: this.model.read(PARTS), isSpeech: this.loudness.isSpeech(),
      });
      this.model.mark();
    }
    return true;
  }
}

registerProcessor("wav2small", Processor);
