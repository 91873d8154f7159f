// Arousal, dominance and valence of a WAV file (16 kHz, mono, 16 bit) by onnxruntime-node.
//     node emotion.js models/micro.onnx talk.wav
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";

/** Samples in [-1, 1]. */
function readWav(path) {
  const file = readFileSync(path);
  const format = file.indexOf("fmt ") + 8, data = file.indexOf("data") + 8;
  const kind = [file.readUInt16LE(format), file.readUInt16LE(format + 2), file.readUInt32LE(format + 4), file.readUInt16LE(format + 14)];
  if (kind.join() !== "1,1,16000,16") throw new Error(`${path}: not a WAV file of 16 kHz, mono, 16 bit`);
  const length = file.readUInt32LE(data - 4) / 2;
  return Float32Array.from({ length }, (_, number) => file.readInt16LE(data + 2 * number) / 32768);
}

const [model, clip] = process.argv.slice(2);
const session = await InferenceSession.create(model, { intraOpNumThreads: 1 });
const samples = readWav(clip);
const signal = new Tensor("float32", samples, [1, samples.length]);
const { emotion } = await session.run({ signal }, ["emotion"]); // shape (1, 3), nominally 0 to 1
for (const [number, name] of ["arousal", "dominance", "valence"].entries())
  console.log(name, Math.min(1, Math.max(0, emotion.data[number])).toFixed(6));
