// What is shown, and where: filters, the axis, zoom and pan.

const shown = {
  what: run.whats.map(() => true),
  kind: run.kinds.map(() => true),
  node: run.nodes.map(() => true),
};
const view = { byTime: false, zoom: 1, left: 0, top: 0, width: 0, height: 0 };
const chosen = { place: -1, cone: null, dim: false, found: [], isFound: new Uint8Array(count) };

const GUTTER = 96;  // the nodes' names, on the left
const RULER = 24;   // the times, at the top
const LANE = 17;    // one band between nodes
const LANES_MAX = 5;

// Each event's place on the axis: its rank among those shown, or its time.
const axis = new Float64Array(count);
let axisEnd = 1, rowOf = [], rows = 0;

const isShown = i => shown.what[run.what[i]] && (kind[i] < 0 || shown.kind[kind[i]])
  && (run.node[i] < 0 || shown.node[run.node[i]])
  && (run.peer[i] < 0 || kind[i] < 0 || shown.node[run.peer[i]]);
const visible = new Uint8Array(count);

function layOut() {
  let rank = 0;
  for (let i = 0; i < count; i++) {
    visible[i] = isShown(i) ? 1 : 0;
    axis[i] = view.byTime ? time[i] : rank;
    rank += visible[i];
  }
  axisEnd = view.byTime ? Math.max(1, count ? time[count - 1] : 1) : Math.max(1, rank);
  rows = 0;
  rowOf = run.nodes.map((_, node) => shown.node[node] ? rows++ : -1);
}

// Bands between nodes lie in lanes above the nodes, as few as do not overlap.
const between = run.bands.filter(band => band.sides.length > 1);
const within = run.bands.filter(band => band.sides.length === 1);
let lanes = 0;
{
  const ends = [];
  for (const band of between) {
    let lane = ends.findIndex(end => end <= band.from);
    if (lane < 0) lane = Math.min(ends.length, LANES_MAX - 1);
    ends[lane] = Math.max(ends[lane] ?? 0, band.to);
    band.lane = lane;
  }
  lanes = ends.length;
}

const worldY = () => RULER + lanes * LANE + 14; // where events of no node are
const rowsTop = () => worldY() + 12;
const rowHeight = () => Math.max(20, Math.min(170, (view.height - rowsTop() - 8) / Math.max(1, rows)));
const yOf = node => rowsTop() + (rowOf[node] + .5) * rowHeight() - view.top;
const rowsBottom = () => rowsTop() + rows * rowHeight() - view.top;

const xAt = u => GUTTER + (u - view.left) * view.zoom;
const uAt = x => view.left + (x - GUTTER) / view.zoom;
const xOf = place => xAt(place >= count ? axisEnd : axis[place]);
const bandX = (band, end) => xAt(view.byTime ? band[end + "_us"] : band[end] >= count ? axisEnd : axis[band[end]]);
const yOfEvent = i => run.node[i] < 0 ? worldY() : yOf(run.node[i]);

const placeAt = u => lowerBound(count, i => axis[i], u);
const zoomFit = () => (view.width - GUTTER - 40) / axisEnd;
const zoomMost = () => view.byTime ? Math.max(10, zoomFit()) : Math.max(140, zoomFit());

function clamp() {
  const fit = zoomFit();
  view.zoom = Math.min(Math.max(view.zoom, fit * .9), Math.max(zoomMost(), fit));
  const room = (view.width - GUTTER) / view.zoom, margin = 60 / view.zoom;
  const last = Math.max(-margin, axisEnd + margin - room);
  view.left = Math.min(Math.max(view.left, -margin), Math.max(last, -margin));
  const tall = rows * rowHeight() - (view.height - rowsTop());
  view.top = Math.min(Math.max(view.top, 0), Math.max(0, tall));
}
function zoomBy(factor, x = GUTTER + (view.width - GUTTER) / 2) {
  const u = uAt(x);
  view.zoom = Math.min(Math.max(view.zoom * factor, zoomFit() * .9), zoomMost());
  view.left = u - (x - GUTTER) / view.zoom;
}
function fit() {
  view.zoom = Math.min(zoomFit(), view.byTime ? zoomFit() : 90);
  view.left = -20 / view.zoom;
}
function showPlace(place, zoom) {
  if (zoom) view.zoom = Math.max(view.zoom, Math.min(zoom, zoomMost()));
  const x = xOf(place);
  if (zoom || x < GUTTER + 60 || x > view.width - 60) view.left = axis[place] - (view.width - GUTTER) / 2 / view.zoom;
  if (run.node[place] >= 0) {
    const y = yOf(run.node[place]);
    if (y < rowsTop() + 10) view.top -= rowsTop() + 10 - y;
    if (y > view.height - 20) view.top += y - view.height + 20;
  }
}
// Other events are shown, or another axis: what is in the middle stays there.
function relaid() {
  const middle = (view.width + GUTTER) / 2;
  const place = chosen.place >= 0 ? chosen.place : Math.min(Math.max(0, count - 1), placeAt(uAt(middle)));
  const x = chosen.place >= 0 ? xOf(place) : middle;
  const part = view.zoom / zoomFit();
  layOut();
  view.zoom = zoomFit() * Math.max(1, part);
  if (count) view.left = axis[place] - (x - GUTTER) / view.zoom;
}
