// The demo page: a microphone through the worklet, or a file in steps of a part; meters, plane and timeline.
import { Loudness, Wav2Small, bytesOf } from "./wav2small.js";

const NAMES = ["arousal", "dominance", "valence"];
const PART_DUR = 0.5;
const PARTS = 6;
const TRAIL = 20;
const SHOWN = 240;
const byId = (id) => document.getElementById(id);
const round = (value) => value.toFixed(3);

let events = [];
let context = null;
let microphone = null;

for (const name of NAMES) {
  byId("meters").insertAdjacentHTML("beforeend", `<div class="meter ${name}"><label for="${name}">${name}</label>
    <output id="${name}" aria-live="off">–</output><div class="bar" aria-hidden="true"><div></div></div></div>`);
}

const bytes = await bytesOf(new URL("wav2small.wasm", import.meta.url));
const model = new Wav2Small(await WebAssembly.compile(bytes));
const { name, version, precision, licence, teacher, trainingData } = model.about;
byId("about").textContent = `Model ${name} ${version}, ${precision}, ${(bytes.byteLength / 1024).toFixed(0)} KB, `
  + `${model.samplingRate} Hz. Licence: ${licence}. Teacher: ${teacher}. Trained on: ${trainingData}.`;
say("Ready");

byId("microphone").addEventListener("click", () => guarded(microphone ? stop : start));
byId("file").addEventListener("change", ({ target }) => target.files[0] && guarded(() => play(target.files[0])));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) guarded(() => play(file));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();

async function guarded(action) {
  try { await action(); } catch (error) { say(`${error.message || error}`); }
}

async function start() {
  if (!navigator.mediaDevices) throw new Error("The microphone needs https or localhost");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  microphone = await navigator.mediaDevices.getUserMedia({ audio });
  context = new AudioContext({ sampleRate: model.samplingRate });
  await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "wav2small", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", processorOptions: { bytes } });
  node.onprocessorerror = () => say("The audio worklet failed");
  node.port.onmessage = ({ data }) => {
    events.push(data);
    meters(data.isSpeech ? data.emotion : null);
    draw();
  };
  context.createMediaStreamSource(microphone).connect(node);
  events = [];
  button(true);
  say("Listening; each answer is that of the last three seconds");
}

async function stop() {
  microphone.getTracks().forEach((track) => track.stop());
  microphone = null;
  await context.close();
  button(false);
  say("Stopped");
}

async function play(file) {
  if (microphone) await stop();
  const samples = await decoded(file);
  events = [];
  model.reset();
  const loudness = new Loudness(model.speech);
  const step = PART_DUR * model.samplingRate;
  let spent = 0, emotion = null;
  for (let from = 0; from < samples.length; from += step) {
    const piece = samples.subarray(from, from + step);
    const begun = performance.now();
    model.push(piece);
    if (from + step >= samples.length) model.finish();
    emotion = model.read(PARTS);
    spent += performance.now() - begun;
    loudness.push(piece);
    events.push({ time: (from + piece.length) / model.samplingRate, emotion, isSpeech: loudness.isSpeech() });
    if (from + step < samples.length) model.mark();
  }
  if (!events.length) throw new Error(`${file.name}: no samples`);
  const dur = samples.length / model.samplingRate;
  meters(loudness.isSpeech() ? model.read() : null);
  draw();
  say(`${file.name}: ${dur.toFixed(1)} s, all of it; ${(spent / dur).toFixed(2)} ms a second of audio, ${(spent / events.length).toFixed(2)} ms a step of ${PART_DUR} s`);
}

/** Mono at the model's rate: decodeAudioData resamples to the rate of its context. */
async function decoded(file) {
  const decoder = new OfflineAudioContext(1, 1, model.samplingRate);
  let audio;
  try { audio = await decoder.decodeAudioData(await file.arrayBuffer()); }
  catch { throw new Error(`${file.name}: not audio that this browser can read; try WAV, MP3, FLAC or Ogg`); }
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++)
    audio.getChannelData(channel).forEach((value, at) => { samples[at] += value / audio.numberOfChannels; });
  return samples;
}

function meters(emotion) {
  for (const name of NAMES) {
    byId(name).textContent = emotion ? round(emotion[name]) : "no speech";
    byId(name).dataset.value = emotion ? emotion[name] : "";
    byId(name).parentElement.querySelector(".bar > div").style.width = emotion ? `${100 * Math.min(1, Math.max(0, emotion[name]))}%` : "0";
  }
}

function say(text) { byId("status").textContent = text; }

function button(on) {
  byId("microphone").textContent = on ? "Stop microphone" : "Start microphone";
  byId("microphone").setAttribute("aria-pressed", on);
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const plane = byId("plane").getContext("2d");
  const { width, height } = byId("plane");
  plane.clearRect(0, 0, width, height);
  plane.strokeStyle = colour("line");
  plane.strokeRect(width / 2, -1, 0, height + 2);
  plane.strokeRect(-1, height / 2, width + 2, 0);
  const trail = events.filter(({ isSpeech, emotion }) => isSpeech && emotion).slice(-TRAIL);
  plane.fillStyle = colour("text");
  trail.forEach(({ emotion }, at) => {
    plane.globalAlpha = (at + 1) / trail.length;
    plane.beginPath();
    plane.arc(emotion.valence * width, (1 - emotion.arousal) * height, at === trail.length - 1 ? 12 : 6, 0, 2 * Math.PI);
    plane.fill();
  });
  plane.globalAlpha = 1;

  const canvas = byId("timeline"), line = canvas.getContext("2d");
  const shown = events.slice(-SHOWN);
  line.clearRect(0, 0, canvas.width, canvas.height);
  line.lineWidth = 4;
  for (const name of NAMES) {
    line.strokeStyle = colour(name);
    line.beginPath();
    let pen = false;
    shown.forEach(({ isSpeech, emotion }, at) => {
      const here = isSpeech && emotion;
      const x = at / Math.max(1, shown.length - 1) * canvas.width;
      if (here) line[pen ? "lineTo" : "moveTo"](x, (1 - emotion[name]) * canvas.height);
      pen = here;
    });
    line.stroke();
  }
}
