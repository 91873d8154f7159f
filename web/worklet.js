// AudioWorklet "wav2small": posts the events of a Live; processorOptions: {bytes} of the wasm.
import { Live, Wav2Small } from "./wav2small.js";

class Processor extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    const model = new Wav2Small(new WebAssembly.Module(processorOptions.bytes));
    if (sampleRate !== model.samplingRate) throw new Error(`the AudioContext has ${sampleRate} Hz, the model ${model.samplingRate}`);
    this.live = new Live(model);
  }

  process([[samples]]) {
    if (samples) this.live.push(samples).forEach((event) => this.port.postMessage(event));
    return true;
  }
}

registerProcessor("wav2small", Processor);
