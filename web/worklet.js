// AudioWorklet "wav2small": posts the events of a Live; processorOptions: {bytes} of the wasm.
import { Live, Wav2Small } from "./wav2small.js";

class Processor extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.live = new Live(new Wav2Small(new WebAssembly.Module(processorOptions.bytes)), sampleRate);
  }

  process([[samples]]) {
    if (samples) this.live.push(samples).forEach((event) => this.port.postMessage(event));
    return true;
  }
}

registerProcessor("wav2small", Processor);
