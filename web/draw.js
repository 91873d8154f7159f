// Plane and timeline of the demo page, drawn on canvases at the size set by the page.

/** Of each line, so that colour is not all that tells them apart. */
export const DASHES = { arousal: [], dominance: [9, 4], valence: [2, 3] };
const TRAIL = 20;
const MARGIN = 22;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600];

/** The latest events as points, older ones fainter. */
export function drawPlane(canvas, events) {
  const { pen, width, height, colour } = fresh(canvas);
  pen.strokeStyle = colour("line");
  stroke(pen, [[width / 2, MARGIN], [width / 2, height - MARGIN]]);
  stroke(pen, [[MARGIN, height / 2], [width - MARGIN, height / 2]]);
  pen.fillStyle = colour("faint");
  pen.textAlign = "center";
  pen.fillText("excited", width / 2, 15);
  pen.fillText("calm", width / 2, height - 8);
  upright(pen, "unpleasant", 15, height / 2);
  upright(pen, "pleasant", width - 7, height / 2);
  const trail = events.filter(({ emotion }) => emotion).slice(-TRAIL);
  pen.fillStyle = colour("text");
  trail.forEach(({ emotion }, at) => {
    pen.globalAlpha = (at + 1) / trail.length;
    pen.beginPath();
    const x = inside(emotion.valence, MARGIN, width - MARGIN), y = inside(1 - emotion.arousal, MARGIN, height - MARGIN);
    pen.arc(x, y, at === trail.length - 1 ? 7 : 3.5, 0, 2 * Math.PI);
    pen.fill();
  });
  const { emotion } = trail.at(-1) ?? {};
  canvas.ariaLabel = `Plane of valence and arousal, ${emotion ? `latest point ${emotion.valence.toFixed(2)} and ${emotion.arousal.toFixed(2)}` : "empty"}`;
}

/** A line a dimension, from 0 to 1, over the seconds of the events, with a gap where there was no speech. */
export function drawTimeline(canvas, events) {
  const { pen, width, height, colour } = fresh(canvas);
  const begin = events.length ? Math.floor(events[0].end - 0.5) : 0;
  const end = Math.max(begin + 10, events.at(-1)?.end ?? 0);
  const x = (time) => MARGIN + (time - begin) / (end - begin) * (width - 2 * MARGIN);
  const y = (value) => inside(1 - value, 8, height - MARGIN);
  const step = STEPS.find((dur) => (end - begin) / dur <= width / 60) ?? 7200;
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("faint");
  pen.textAlign = "center";
  for (const value of [0, 0.5, 1]) {
    stroke(pen, [[MARGIN, y(value)], [width - MARGIN, y(value)]]);
    pen.fillText(value === 0.5 ? ".5" : value, MARGIN / 2, y(value) + 4);
  }
  for (let time = Math.ceil(begin / step) * step; time <= end; time += step) pen.fillText(clock(time), x(time), height - 6);
  pen.lineWidth = 2;
  for (const [name, dashes] of Object.entries(DASHES)) {
    pen.strokeStyle = colour(name);
    pen.setLineDash(dashes);
    for (const run of runs(events)) stroke(pen, run.map((event) => [x(event.end), y(event.emotion[name])]));
  }
  canvas.ariaLabel = `Arousal, dominance and valence over time, ${events.length ? `${clock(begin)} to ${clock(end)}; the numbers are in the CSV` : "empty"}`;
}

/** A canvas of the size that it has on the page, emptied, and the page's colours. */
function fresh(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.font = "12px system-ui, sans-serif";
  const style = getComputedStyle(document.documentElement);
  return { pen, width, height, colour: (name) => style.getPropertyValue(`--${name}`).trim() };
}

function stroke(pen, points) {
  pen.beginPath();
  const [[x, y]] = points;
  pen.moveTo(x - (points.length === 1 ? 1 : 0), y); // a single point is a dot
  points.forEach((point) => pen.lineTo(...point));
  pen.stroke();
}

function upright(pen, text, x, y) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(-Math.PI / 2);
  pen.fillText(text, 0, 0);
  pen.restore();
}

function inside(share, low, high) { return low + Math.min(1, Math.max(0, share)) * (high - low); }

function runs(events) {
  const found = [[]];
  for (const event of events) event.emotion ? found.at(-1).push(event) : found.push([]);
  return found.filter((run) => run.length);
}

function clock(time) { return `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`; }
