// The demo page: predictions from the microphone or a file by a Live, or by the service that the page came from, with meters, plane, timeline and computation time, and a comparison of the
// microphone with the speaker's own baseline, which is in memory only until it is saved.
import { Baseline, Live, PARTS, PART_DUR, READY_DUR, SpeechMeter, Wav2Small, bytesOf, listen } from "./wav2small.js";
import { listenRemote, predictFile, service } from "./remote.js";
import { DASHES, drawPlane, drawTimeline } from "./draw.js";

const ENDS = { arousal: ["calm", "excited"], dominance: ["weak", "strong"], valence: ["unpleasant", "pleasant"] };
const CHANGES = {
  arousal: ["calmer than usual", "livelier than usual"],
  dominance: ["softer than usual", "firmer than usual"],
  valence: ["more negative than usual", "more positive than usual"],
};
const CHANGE = 1; // spreads from the mean
const NAMES = Object.keys(ENDS);
const KEPT = 7200;
const SHOWN = 240;
const QUANTUM = 128, MICROPHONE_RATE = 48000;
const EXAMPLE = "example.flac";
const byId = (id) => document.getElementById(id);

let bytes, module, model;
let events = [];
let shown = Infinity;
let stepDurs = [];
let endMicrophone = null, isStarting = false;
let turn = 0;
let baseline = null, comparedUntil = 0;
let isRemote = false;

for (const name of NAMES) {
  byId("meters").insertAdjacentHTML("beforeend", `<div class="meter ${name}">
    <div class="value"><label for="${name}">${name}</label> <output id="${name}" aria-live="off">–</output></div>
    <div class="bar" aria-hidden="true"><div></div></div>
    <div class="ends"><span>${ENDS[name][0]}</span> <span>${ENDS[name][1]}</span></div></div>`);
  byId("legend").insertAdjacentHTML("beforeend", `<span class="${name}"><svg viewBox="0 0 32 8" aria-hidden="true">
    <path d="M0 4H32" stroke="currentColor" stroke-width="2" stroke-dasharray="${DASHES[name]}"/></svg> ${name}</span>`);
}
byId("legend").append("gaps: no speech");
byId("microphone").addEventListener("click", toggle);
byId("file").addEventListener("change", ({ target }) => target.files[0] && guarded(() => open(target.files[0])));
byId("example").addEventListener("click", () => guarded(playExample));
byId("where").addEventListener("change", ({ target }) => target.name === "where" && guarded(() => choose(target.value === "server")));
byId("save").addEventListener("click", save);
byId("start-over").addEventListener("click", startOver);
byId("save-baseline").addEventListener("click", () => download("baseline.json", "application/json", `${JSON.stringify(baseline, null, 1)}\n`));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const file = event.dataTransfer.files[0];
  guarded(() => file ? open(file) : Promise.reject(new Error("This is not a file; drop an audio file, not a link or text")));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("resize", draw);
draw();
guarded(begin);

async function begin() {
  bytes = await bytesOf(new URL("wav2small.wasm", import.meta.url));
  module = await WebAssembly.compile(bytes);
  model = new Wav2Small(module);
  const { name, version, precision, licence, teacher, trainingData } = model.about;
  byId("about").textContent = `Model ${name} ${version}, ${precision}, ${(bytes.byteLength / 1024).toFixed(0)} KB, ${model.samplingRate} Hz. `
    + `Licence: ${licence}. Teacher: ${teacher}. Trained on: ${trainingData}.`;
  baseline = new Baseline({ about: model.about });
  byId("microphone").disabled = byId("file").disabled = false;
  say("Ready");
  byId("example").hidden = !await hasExample();
  const { isThere, needsKey } = await service();
  byId("where").hidden = !isThere;
  byId("with-key").hidden = !needsKey;
}

/** Compute by the service, or in this page. */
async function choose(remote) {
  if (endMicrophone) await stop();
  clear();
  isRemote = remote;
  byId("comparison").hidden = true;
  byId("place").textContent = remote ? "It runs on this server: audio is sent there, is held in memory only, and is not stored."
    : "It runs in this page, and audio stays on your device.";
  say("Ready");
}

/** Whether the server has the example clip; wav2small demo has, other servers of this page need not. */
async function hasExample() {
  try { return (await fetch(EXAMPLE, { method: "HEAD" })).ok; } catch { return false; }
}

async function playExample() {
  const clip = new File([await (await fetch(EXAMPLE)).blob()], EXAMPLE);
  await play(clip);
  await new Audio(EXAMPLE).play();
}

async function guarded(action) {
  try { await action(); } catch (error) { say(`${error.message || error}`); }
}

async function toggle() {
  if (isStarting) return; // a disabled button would lose the keyboard focus
  isStarting = true;
  await guarded(endMicrophone ? stop : start);
  isStarting = false;
}

async function start() {
  clear();
  shown = SHOWN;
  comparedUntil = 0;
  say("Waiting for the microphone");
  const mine = turn;
  const onEnd = (reason) => { endMicrophone = null; button(); say(reason); };
  const end = await (isRemote ? listenRemote(receivedRemote, { key: byId("key").value, onEnd }) : listen(received, { source: bytes, onEnd }));
  if (mine !== turn) return end(); // a file was dropped meanwhile
  endMicrophone = end;
  button();
  say(`Listening; each prediction is for the last ${PARTS * PART_DUR} seconds`);
}

async function stop() {
  const end = endMicrophone;
  endMicrophone = null;
  button();
  await end();
  say("Stopped");
}

function received(event) {
  if (!endMicrophone) return;
  add(event);
  if (events.length > KEPT) events.shift();
  if (event.computeDur === null && !stepDurs.length) cost(measured(), ", measured separately on noise at 48 kHz");
  meters(event.emotion);
  compare(event);
  draw();
}

function receivedRemote({ delay, change, ...event }) {
  if (!endMicrophone) return;
  add({ ...event, computeDur: null });
  if (events.length > KEPT) events.shift();
  if (delay !== null) byId("cost").textContent = `From the end of the audio to its prediction: ${(1000 * delay).toFixed(0)} ms`;
  if (change) byId("baseline").textContent = `Compared with your voice so far: ${change}`;
  byId("comparison").hidden = !change;
  meters(event.emotion);
  draw();
}

/** Compare an event of the microphone with those before it, then include it, unless wav2small enroll recorded the baseline. */
function compare({ start, end, emotion, speechRatio }) {
  const speechDur = (end - Math.max(start, comparedUntil)) * speechRatio;
  comparedUntil = end;
  if (!emotion) return;
  const text = baseline.isReady ? `Compared with your voice so far: ${change(baseline.deviation(emotion))}` : null;
  if (!baseline.isEnrolled) baseline.add(emotion, speechDur);
  showBaseline(text ?? progressOf(baseline));
}

/** Words for the dimension that is furthest from the baseline. */
function change(deviation) {
  const name = NAMES.reduce((most, name) => Math.abs(deviation[name]) > Math.abs(deviation[most]) ? name : most);
  return Math.abs(deviation[name]) > CHANGE ? CHANGES[name][deviation[name] > 0 ? 1 : 0] : "as usual";
}

function progressOf({ isReady, speechDur }) {
  return isReady ? `Your voice so far: ${Math.floor(speechDur)} s of speech` : `Your voice so far: ${Math.floor(speechDur)} of ${READY_DUR} s of speech`;
}

function showBaseline(text) {
  byId("baseline").textContent = text;
  byId("comparison").hidden = false;
}

function startOver() {
  baseline = new Baseline({ about: model.about });
  showBaseline(progressOf(baseline));
}

/** A baseline that was saved, or audio. */
async function open(file) {
  return await file.slice(0, 1).text() === "{" ? restore(file) : play(file);
}

async function restore(file) {
  if (!model) throw new Error("The model is not loaded");
  try { baseline = Baseline.fromJSON(JSON.parse(await file.text()), model.about); } catch (error) { throw new Error(`${file.name}: ${error.message}`); }
  showBaseline(progressOf(baseline));
  say(`${file.name}: this baseline is compared with the microphone`);
}

/** Process a file in chunks, with a pause every 100 ms so that the page stays responsive. */
async function play(file) {
  if (!model) throw new Error("The model is not loaded");
  if (endMicrophone) await stop();
  clear();
  const mine = ++turn;
  say(`Reading ${file.name}`);
  if (isRemote) return playRemote(file, mine);
  const { samples, samplingRate } = await decoded(file);
  if (mine !== turn) return;
  const live = new Live(model), meter = new SpeechMeter(model.speech), resampler = model.resampler(samplingRate);
  const process = (signal) => { meter.push(signal); live.push(signal).forEach(add); };
  let lastPause = performance.now();
  byId("progress").hidden = false;
  const step = PART_DUR * samplingRate;
  for (let from = 0; from < samples.length; from += step) {
    process(resampler.push(samples.subarray(from, from + step)));
    if (performance.now() - lastPause < 100) continue;
    byId("progress").value = from / samples.length;
    await new Promise((done) => setTimeout(done));
    if (mine !== turn) return;
    lastPause = performance.now();
  }
  process(resampler.finish());
  live.finish().forEach(add);
  meter.finish();
  byId("progress").hidden = true;
  const length = Math.round(samples.length * model.samplingRate / samplingRate), ratio = meter.ratio(0, length);
  const emotion = meter.isEnough(ratio, length, model.speech.fileDur) ? model.read() : null;
  meters(emotion);
  draw();
  say(summary(file, samples.length / samplingRate, ratio, emotion));
}

/** The same by the service. */
async function playRemote(file, mine) {
  const { events: found, whole } = await predictFile(file, byId("key").value);
  if (mine !== turn) return;
  found.forEach((event) => add({ ...event, computeDur: null }));
  byId("cost").textContent = "";
  meters(whole.emotion);
  draw();
  say(summary(file, whole.end, whole.speechRatio, whole.emotion));
}

function summary(file, dur, ratio, emotion) {
  return `${file.name}: ${dur.toFixed(1)} s, ${(100 * ratio).toFixed(0)} % speech; `
    + (emotion ? "the meters show the prediction for the whole file" : "too little speech for a prediction");
}

/** Mono samples at the rate of the file, if known. decodeAudioData resamples to the rate of its context. */
async function decoded(file) {
  if (file.size === 0) throw new Error(`${file.name}: is empty; choose a file with audio`);
  let audio, samplingRate;
  try {
    const content = await file.arrayBuffer();
    samplingRate = rateOf(new DataView(content));
    audio = await new OfflineAudioContext(1, 1, samplingRate).decodeAudioData(content);
  } catch { throw new Error(`${file.name}: this browser cannot decode it; try WAV, MP3, FLAC or Ogg`); }
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++)
    audio.getChannelData(channel).forEach((value, at) => { samples[at] += value / audio.numberOfChannels; });
  return { samples, samplingRate };
}

/** Sampling rate from a WAV or FLAC header; else 48 kHz, which preserves all content below 8 kHz. */
function rateOf(view) {
  const isAt = (text, at) => [...text].every((letter, n) => view.getUint8(at + n) === letter.charCodeAt());
  let rate = 0;
  if (view.byteLength > 44 && isAt("fLaC", 0)) rate = view.getUint32(18) >>> 12;
  if (view.byteLength > 44 && isAt("RIFF", 0))
    for (let at = 12; at + 16 <= view.byteLength && !rate; at += 8 + view.getUint32(at + 4, true))
      if (isAt("fmt ", at)) rate = view.getUint32(at + 12, true);
  return rate >= 8000 && rate <= 96000 ? rate : 48000;
}

function clear() {
  events = [];
  shown = Infinity;
  stepDurs = [];
  turn++;
  byId("progress").hidden = byId("save").hidden = true;
  byId("cost").textContent = "Time per step: none yet";
  meters(undefined);
  draw();
}

function add(event) {
  events.push(event);
  if (event.computeDur !== null) cost(event.computeDur, "");
  byId("save").hidden = false;
}

function cost(stepDur, how) {
  stepDurs.push(stepDur);
  const mean = stepDurs.reduce((sum, dur) => sum + dur, 0) / stepDurs.length;
  byId("cost").textContent = `Time per step of ${PART_DUR} s: ${(1000 * mean).toFixed(2)} ms; ${(1000 * mean / PART_DUR).toFixed(2)} ms per second of audio${how}`;
}

/**
 * Computation time of a step in seconds, in chunks as a worklet receives them; for worklets without a clock. The time of integer models does
 * not depend on the signal. It is the minimum of ten rounds, because the browser compiles during the first ones.
 */
function measured() {
  const live = new Live(new Wav2Small(module), MICROPHONE_RATE);
  const steps = 4;
  const noise = Float32Array.from({ length: steps * PART_DUR * MICROPHONE_RATE }, () => Math.random() - 0.5);
  let least = Infinity;
  for (let round = 0; round < 10; round++) {
    const begun = performance.now();
    for (let from = 0; from < noise.length; from += QUANTUM) live.push(noise.subarray(from, from + QUANTUM));
    least = Math.min(least, performance.now() - begun);
  }
  return least / 1000 / steps;
}

/** emotion: undefined without a prediction, null without speech. */
function meters(emotion) {
  for (const name of NAMES) {
    const output = byId(name);
    output.textContent = emotion ? emotion[name].toFixed(3) : emotion === null ? "no speech" : "–";
    output.dataset.value = emotion ? emotion[name] : "";
    output.closest(".meter").querySelector(".bar > div").style.width = emotion ? `${100 * Math.min(1, Math.max(0, emotion[name]))}%` : "0";
  }
}

function say(text) { byId("status").textContent = text; }

function button() {
  byId("microphone").textContent = endMicrophone ? "Stop microphone" : "Start microphone";
}

function draw() {
  drawPlane(byId("plane"), events);
  drawTimeline(byId("timeline"), events.slice(-shown));
}

function save() {
  const rows = events.map(({ start, end, emotion, speechRatio }) => [start, end, ...NAMES.map((name) => emotion ? emotion[name] : ""), speechRatio]);
  const text = [["start", "end", ...NAMES, "speech_ratio"], ...rows].map((row) => row.join(",")).join("\r\n");
  download("wav2small.csv", "text/csv", `${text}\r\n`);
}

function download(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
