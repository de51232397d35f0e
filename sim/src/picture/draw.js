// The diagram and the overview. Only what is in view is drawn; where events are denser than pixels,
// one mark stands for those that would hide each other.

const canvas = document.getElementById("diagram"), overview = document.getElementById("overview");
const colors = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "ink", "quiet", "line", "accent", "bad", "good", "found", "row",
    "cut", "slow", "pause", "disk", "down", "sans", "mono"]) colors[name] = style.getPropertyValue("--" + name).trim();
  colors.kinds = run.kinds.map((_, k) => style.getPropertyValue(`--m${k % 10}`).trim());
}
const colorOf = i => kind[i] >= 0 ? colors.kinds[kind[i]] : {
  Start: colors.good, Crash: colors.bad, Fault: colors.bad, Heal: colors.good, Command: colors.accent,
  Op: colors.accent, Emit: colors.good, Drop: colors.bad,
}[run.whats[run.what[i]]] || colors.quiet;
const bandColor = band => colors[{
  down: "down", pause: "pause", "slow node": "pause",
  "full disk": "disk", "slow disk": "disk", "lying sync": "disk",
  "slow link": "slow", clog: "slow", drift: "slow", "wall wave": "slow", "wall steps": "slow",
}[band.name] || "cut"];

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect();
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  return [c, width, height];
}

// The arrows of the last drawing, for the pointer: where each is and which.
let drawn = [];
const ARROWS_MAX = 6000;

function draw() {
  const [c, width, height] = sized(canvas);
  view.width = width;
  view.height = height;
  clamp();
  const low = Math.max(0, placeAt(uAt(GUTTER - 20)) - 1);
  const high = Math.min(count, placeAt(uAt(width + 20)) + 1);
  c.save();
  c.beginPath();
  c.rect(GUTTER, 0, width - GUTTER, height);
  c.clip();
  drawRuler(c, width, height);
  drawBetween(c, width);
  c.save();
  c.beginPath();
  c.rect(GUTTER, rowsTop() - 6, width, height);
  c.clip();
  drawRows(c, width, low, high);
  drawArrows(c, low, high);
  drawEvents(c, low, high, false);
  c.restore();
  drawEvents(c, low, high, true);
  drawFailure(c, height);
  drawChosen(c, height);
  c.restore();
  drawNames(c, height);
  document.documentElement.dataset.drawn = `${high - low} events, ${drawn.length} arrows`;
}

function drawRuler(c, width, height) {
  c.font = `11px ${colors.sans}`;
  c.textBaseline = "middle";
  c.textAlign = "left";
  const mark = (x, text) => {
    c.fillStyle = colors.line;
    c.fillRect(Math.round(x), RULER - 6, 1, height);
    c.fillStyle = colors.quiet;
    c.fillText(text, x + 4, 10);
  };
  if (view.byTime) {
    const wanted = 130 / view.zoom, ten = 10 ** Math.floor(Math.log10(wanted));
    const step = Math.max(1, [1, 2, 5, 10].find(n => n * ten >= wanted) * ten);
    for (let u = Math.max(0, Math.ceil(view.left / step) * step); u <= axisEnd && xAt(u) < width; u += step) {
      mark(xAt(u), `${+(u / 1e6).toFixed(6)} s`);
    }
    return;
  }
  // Columns that stay where they are while one moves.
  const step = Math.max(1, 2 ** Math.ceil(Math.log2(130 / view.zoom)));
  for (let u = Math.max(0, Math.ceil(view.left / step) * step); u < axisEnd && xAt(u) < width; u += step) {
    const place = Math.min(placeAt(u + .5), count) - 1;
    if (place >= 0) mark(xAt(u), clock(time[place]));
  }
}

const isIn = band => band.sides.flat().some(node => shown.node[node]);

function drawBetween(c, width) {
  c.font = `11px ${colors.sans}`;
  c.textBaseline = "middle";
  for (const band of between) {
    const from = Math.max(bandX(band, "from"), GUTTER - 5), to = Math.min(Math.max(bandX(band, "to"), bandX(band, "from") + 2), width + 5);
    if (to < GUTTER || from > width || !isIn(band)) continue;
    const color = bandColor(band), y = RULER + band.lane * LANE;
    const rows = band.sides.flat().filter(node => shown.node[node]).map(yOf);
    const top = Math.max(rowsTop() - 6, Math.min(...rows) - 12), bottom = Math.max(...rows) + 12;
    c.fillStyle = color;
    c.globalAlpha = .07;
    c.fillRect(from, top, to - from, Math.max(0, bottom - top));
    c.globalAlpha = .22;
    c.fillRect(from, y + 1, to - from, LANE - 3);
    c.globalAlpha = 1;
    c.fillRect(from, y + 1, 2, LANE - 3);
    const label = `${band.name}  ${band.text}`;
    if (to - from > 24) {
      c.save();
      c.beginPath();
      c.rect(from, y, to - from - 2, LANE);
      c.clip();
      c.fillStyle = color;
      c.textAlign = "left";
      c.fillText(label, Math.max(from, GUTTER) + 7, y + LANE / 2);
      c.restore();
    }
  }
}

function drawRows(c, width, low, high) {
  const right = Math.min(width, xAt(axisEnd) + 14);
  const thick = rowHeight() < 28 ? 1 : 1.5;
  for (let node = 0; node < nodes; node++) {
    if (!shown.node[node]) continue;
    const y = yOf(node), starts = eventsOf[node].find(i => run.what[i] === WHAT.Start || run.what[i] === WHAT.Crash);
    // Before its first start a node is not there.
    const from = starts === undefined || run.first > 0 ? GUTTER : Math.max(GUTTER, xOf(starts));
    c.fillStyle = colors.row;
    if (right > from) c.fillRect(from, y - thick / 2, right - from, thick);
  }
  c.font = `10.5px ${colors.sans}`;
  c.textBaseline = "middle";
  c.textAlign = "left";
  const tall = Math.min(26, rowHeight() * .5), free = new Float64Array(nodes).fill(-1e9);
  for (const band of within) {
    const node = band.sides[0][0];
    const from = Math.max(bandX(band, "from"), GUTTER - 5), to = Math.min(Math.max(bandX(band, "to"), bandX(band, "from") + 1), width + 5);
    if (to < GUTTER || from > width || !shown.node[node]) continue;
    const y = yOf(node), color = bandColor(band), down = band.name === "down";
    if (down) {
      c.fillStyle = colors.paper;
      c.fillRect(from, y - 2, to - from, 4);
    }
    c.fillStyle = color;
    c.globalAlpha = down ? .13 : .2;
    c.fillRect(from, y - tall / 2, to - from, tall);
    c.globalAlpha = 1;
    if (down && to - from > 8) {
      c.strokeStyle = color;
      c.setLineDash([2, 4]);
      c.beginPath();
      c.moveTo(from, y);
      c.lineTo(to, y);
      c.stroke();
      c.setLineDash([]);
    }
    const label = down ? "down" : band.text ? `${band.name}, ${band.text}` : band.name;
    const wide = c.measureText(label).width + 12, x = Math.max(from, GUTTER, free[node]) + 6;
    if (x + wide < to && rowHeight() >= 40) {
      free[node] = x + wide;
      c.fillStyle = color;
      c.fillText(label, x, y + tall / 2 + 7);
    }
  }
}

// Where a lost message's line ends: near its sender if it never left, else just before its target.
function endOf(k) {
  const from = arrows.from[k], to = arrows.to[k], y0 = yOf(run.node[from]), target = run.peer[from];
  const y1 = target >= 0 && rowOf[target] >= 0 ? yOf(target) : y0;
  if (!arrows.lost[k]) return [xOf(to), y1];
  return [xOf(to), y0 + (y1 - y0) * (time[from] === time[to] ? .3 : .82)];
}

function drawArrows(c, low, high) {
  drawn = [];
  const begin = lowerBound(arrows.to.length, k => arrows.to[k], low);
  // The more there are, the coarser the grid on which one arrow stands for those on top of it.
  let many = 0;
  for (let k = begin; k < arrows.to.length && earliest[k] <= high; k++) many += arrows.from[k] <= high;
  const seen = new Set(), cell = Math.max(.5, Math.min(12, many / ARROWS_MAX));
  for (let k = begin; k < arrows.to.length && earliest[k] <= high; k++) {
    const from = arrows.from[k], to = arrows.to[k];
    if (from > high || !visible[from] && !visible[to]) continue;
    if (!shown.kind[kind[from]] || !shown.node[run.node[from]] || !shown.node[run.peer[from]]) continue;
    if (!shown.what[run.what[to]] && !shown.what[WHAT.Send]) continue;
    const x0 = xOf(from), [x1, y1] = endOf(k);
    if (many > 500) {
      const key = `${Math.round(x0 / cell)},${Math.round(x1 / cell)},${run.node[from]},${run.peer[from]},${arrows.lost[k]}`;
      if (seen.has(key)) continue;
      seen.add(key);
    }
    // Those that only pass through are fainter: neither end is in view.
    drawn.push({ k, x0, y0: yOf(run.node[from]), x1, y1, passes: x0 < GUTTER && x1 > view.width });
  }
  const faint = Math.max(.16, Math.min(.85, 900 / Math.max(1, drawn.length)));
  // Arrows of one style are one path.
  const styles = new Map();
  for (const arrow of drawn) {
    const { k } = arrow, dimmed = chosen.dim && chosen.cone && !(chosen.cone[arrows.from[k]] && chosen.cone[arrows.to[k]]);
    const key = [kind[arrows.from[k]], arrows.lost[k], arrows.again[k], dimmed, arrow.passes].join();
    if (!styles.has(key)) styles.set(key, { arrow, dimmed, list: [] });
    styles.get(key).list.push(arrow);
  }
  c.lineWidth = drawn.length > 1500 ? .75 : 1.15;
  const heads = view.zoom > 3 || drawn.length < 400;
  for (const { arrow, dimmed, list } of styles.values()) {
    const color = colors.kinds[kind[arrows.from[arrow.k]]];
    c.strokeStyle = c.fillStyle = color;
    c.globalAlpha = dimmed ? .08 : arrow.passes ? faint * .22 : faint;
    c.setLineDash(arrows.again[arrow.k] ? [5, 4] : []);
    c.beginPath();
    for (const { x0, y0, x1, y1, k } of list) line(c, x0, y0, x1, y1, arrows.from[k], arrows.to[k]);
    c.stroke();
    c.setLineDash([]);
    if (arrows.lost[arrow.k]) {
      c.globalAlpha = dimmed ? .08 : 1;
      c.strokeStyle = colors.bad;
      c.lineWidth = heads ? 1.6 : 1;
      c.beginPath();
      for (const { x1, y1 } of list) cross(c, x1, y1, heads ? 3.5 : 2);
      c.stroke();
      c.lineWidth = drawn.length > 1500 ? .75 : 1.15;
    } else if (heads) {
      c.beginPath();
      for (const { x0, y0, x1, y1 } of list) head(c, x0, y0, x1, y1);
      c.fill();
    }
  }
  c.globalAlpha = 1;
  drawPending(c, low, high);
  drawKinds(c);
}

function line(c, x0, y0, x1, y1) {
  c.moveTo(x0, y0);
  // To itself: a small arc above the node's line.
  if (y0 === y1 && x1 > x0) c.quadraticCurveTo((x0 + x1) / 2, y0 - 18, x1, y1); else c.lineTo(x1, y1);
}
function cross(c, x, y, r) {
  c.moveTo(x - r, y - r);
  c.lineTo(x + r, y + r);
  c.moveTo(x - r, y + r);
  c.lineTo(x + r, y - r);
}
function head(c, x0, y0, x1, y1) {
  if (y0 === y1) return;
  const length = Math.hypot(x1 - x0, y1 - y0), dx = (x1 - x0) / length, dy = (y1 - y0) / length;
  // The tip is at the edge of the event's dot.
  const x = x1 - dx * 4, y = y1 - dy * 4;
  c.moveTo(x, y);
  c.lineTo(x - dx * 7 - dy * 3, y - dy * 7 + dx * 3);
  c.lineTo(x - dx * 7 + dy * 3, y - dy * 7 - dx * 3);
  c.closePath();
}

// Messages that were neither delivered nor lost by the end: a dotted stub.
function drawPending(c, low, high) {
  if (view.zoom < 2) return;
  c.setLineDash([1, 4]);
  for (let n = lowerBound(pending.length, n => pending[n], low); n < pending.length && pending[n] < high; n++) {
    const i = pending[n];
    if (!visible[i] || run.peer[i] < 0 || rowOf[run.peer[i]] < 0) continue;
    c.strokeStyle = colorOf(i);
    c.beginPath();
    c.moveTo(xOf(i), yOf(run.node[i]));
    c.lineTo(xOf(i) + 16, yOf(run.node[i]) + (yOf(run.peer[i]) - yOf(run.node[i])) * .35);
    c.stroke();
  }
  c.setLineDash([]);
}

// The messages' kinds, along the arrows, where there is room.
function drawKinds(c) {
  if (drawn.length > 130 || view.zoom < 10) return;
  c.font = `10.5px ${colors.sans}`;
  c.textAlign = "center";
  c.textBaseline = "bottom";
  const taken = [];
  for (const { k, x0, y0, x1, y1 } of drawn) {
    const text = run.kinds[kind[arrows.from[k]]], length = Math.hypot(x1 - x0, y1 - y0);
    const wide = c.measureText(text).width;
    if (length < wide + 34 || y0 === y1) continue;
    const part = [.5, .36, .64].find(part => {
      const x = x0 + (x1 - x0) * part, y = y0 + (y1 - y0) * part;
      return taken.every(([a, b]) => Math.abs(a - x) > wide * .8 || Math.abs(b - y) > 15);
    });
    if (!part) continue;
    const x = x0 + (x1 - x0) * part, y = y0 + (y1 - y0) * part;
    taken.push([x, y]);
    c.save();
    c.translate(x, y);
    c.rotate(Math.atan2(y1 - y0, x1 - x0));
    c.globalAlpha = chosen.dim && chosen.cone && !(chosen.cone[arrows.from[k]] && chosen.cone[arrows.to[k]]) ? .12 : 1;
    c.lineWidth = 3;
    c.strokeStyle = colors.paper;
    c.strokeText(text, 0, -2);
    c.fillStyle = colors.kinds[kind[arrows.from[k]]];
    c.fillText(text, 0, -2);
    c.restore();
  }
}

function drawEvents(c, low, high, ofNobody) {
  const each = Math.max(1, high - low);
  const perPixel = each / (view.width - GUTTER);
  if (perPixel > .5) return drawDensity(c, low, high, ofNobody);
  c.lineWidth = 1.5;
  const big = view.zoom > 7 || each < 160;
  for (let i = low; i < high; i++) {
    if (!visible[i] || (run.node[i] < 0) !== ofNobody || run.what[i] === WHAT.Drop && run.message[i] >= 0) continue;
    if (run.node[i] >= 0 && rowOf[run.node[i]] < 0) continue;
    c.globalAlpha = chosen.dim && chosen.cone && run.node[i] >= 0 && !chosen.cone[i] ? .15 : 1;
    glyph(c, i, xOf(i), yOfEvent(i), big ? 4 : 2.5);
  }
  c.globalAlpha = 1;
  if (!ofNobody && view.zoom > 30) drawLabels(c, low, high);
}

function glyph(c, i, x, y, r) {
  c.fillStyle = c.strokeStyle = colorOf(i);
  c.beginPath();
  switch (run.whats[run.what[i]]) {
    case "Send": c.arc(x, y, r * .75, 0, 7); c.fill(); break;
    case "Deliver": c.arc(x, y, r, 0, 7); c.fill(); break;
    case "Duplicate": c.arc(x, y, r, 0, 7); c.stroke(); break;
    case "Tick": c.arc(x, y, r * .7, 0, 7); c.fillStyle = colors.paper; c.fill(); c.stroke(); break;
    case "Command": case "Op":
      c.moveTo(x - r, y - r * 1.1); c.lineTo(x + r * 1.1, y); c.lineTo(x - r, y + r * 1.1); c.closePath(); c.fill(); break;
    case "Emit": c.moveTo(x - r, y + r); c.lineTo(x, y - r * 1.2); c.lineTo(x + r, y + r); c.closePath(); c.fill(); break;
    case "Persist": c.rect(x - r * .8, y - r * .8, r * 1.6, r * 1.6); c.fill(); break;
    case "Sync": case "Forget": c.rect(x - r * .7, y - r * .7, r * 1.4, r * 1.4); c.fillStyle = colors.paper; c.fill(); c.stroke(); break;
    case "Crash": c.lineWidth = 2.5; cross(c, x, y, r * 1.5); c.stroke(); c.lineWidth = 1.5; break;
    case "Start": c.arc(x, y, r * 1.5, 0, 7); c.fill(); break;
    default: // links, connections, faults, the heal phase
      c.moveTo(x, y - r * 1.2); c.lineTo(x + r * 1.2, y); c.lineTo(x, y + r * 1.2); c.lineTo(x - r * 1.2, y); c.closePath();
      if (run.what[i] === WHAT.Undo || run.what[i] === WHAT.Link) { c.fillStyle = colors.paper; c.fill(); c.stroke(); } else c.fill();
  }
}

// What an event is, under its mark, where there is room.
function drawLabels(c, low, high) {
  c.font = `10px ${colors.sans}`;
  c.textAlign = "center";
  c.textBaseline = "top";
  const free = new Float64Array(nodes).fill(-1e9);
  for (let i = low; i < high; i++) {
    const node = run.node[i], what = run.what[i];
    if (!visible[i] || node < 0 || rowOf[node] < 0 || what === WHAT.Drop || what === WHAT.Send || what === WHAT.Deliver) continue;
    const text = what === WHAT.Link ? `link ${textOf(i)}` : run.whats[what].toLowerCase(), wide = c.measureText(text).width;
    const x = xOf(i);
    if (x - wide / 2 < free[node]) continue;
    free[node] = x + wide / 2 + 4;
    c.lineWidth = 3;
    c.strokeStyle = colors.paper;
    c.strokeText(text, x, yOf(node) + 7);
    c.fillStyle = colors.quiet;
    c.fillText(text, x, yOf(node) + 7);
  }
}

// Too many to tell apart: how many there are, by pixel; starts and crashes stay visible.
function drawDensity(c, low, high, ofNobody) {
  const wide = Math.ceil(view.width), lines = ofNobody ? 1 : nodes, counts = new Uint16Array(lines * wide), marks = [];
  let most = 1;
  for (let i = low; i < high; i++) {
    if (!visible[i] || (run.node[i] < 0) !== ofNobody) continue;
    const x = Math.round(xOf(i)), what = run.what[i];
    if (x < 0 || x >= wide) continue;
    most = Math.max(most, ++counts[(ofNobody ? 0 : run.node[i]) * wide + x]);
    if (what === WHAT.Crash || what === WHAT.Start && !ofNobody) marks.push(i);
  }
  c.fillStyle = ofNobody ? colors.bad : colors.ink;
  const tall = ofNobody ? 4 : Math.min(15, rowHeight() * .3);
  for (let row = 0; row < lines; row++) {
    if (!ofNobody && rowOf[row] < 0) continue;
    const y = ofNobody ? worldY() : yOf(row);
    for (let x = 0; x < wide; x++) {
      const n = counts[row * wide + x];
      if (!n) continue;
      const part = Math.log1p(n) / Math.log1p(most), h = 2 + tall * part;
      c.globalAlpha = .25 + .45 * part;
      c.fillRect(x, y - h / 2, 1, h);
    }
  }
  c.globalAlpha = 1;
  c.lineWidth = 1.5;
  for (const i of marks.slice(0, 2000)) if (rowOf[run.node[i]] >= 0) glyph(c, i, xOf(i), yOfEvent(i), run.what[i] === WHAT.Crash ? 3 : 2);
}

function drawFailure(c, height) {
  const place = run.failed_at;
  if (place < 0) return;
  const x = xOf(place), text = "failure";
  c.strokeStyle = c.fillStyle = colors.bad;
  c.lineWidth = 1.5;
  c.beginPath();
  c.moveTo(x, RULER - 4);
  c.lineTo(x, height);
  c.setLineDash([6, 3]);
  c.stroke();
  c.setLineDash([]);
  if (run.node[place] >= 0 && rowOf[run.node[place]] >= 0) {
    c.beginPath();
    c.lineWidth = 2.5;
    c.arc(x, yOfEvent(place), 9, 0, 7);
    c.stroke();
  }
  c.font = `600 11px ${colors.sans}`;
  const wide = c.measureText(text).width + 12;
  c.fillRect(x - wide / 2, 2, wide, 17);
  c.fillStyle = colors.paper;
  c.textAlign = "center";
  c.textBaseline = "middle";
  c.fillText(text, x, 11);
}

function drawChosen(c, height) {
  const ring = (i, color, r) => {
    if (run.node[i] >= 0 && rowOf[run.node[i]] < 0) return;
    c.strokeStyle = color;
    c.lineWidth = 2;
    c.beginPath();
    c.arc(xOf(i), placeY(i), r, 0, 7);
    c.stroke();
  };
  const from = lowerBound(chosen.found.length, n => axis[chosen.found[n]], uAt(GUTTER));
  for (let n = from, last = -9; n < chosen.found.length && xOf(chosen.found[n]) < view.width; n++) {
    const x = xOf(chosen.found[n]);
    if (view.zoom < 1 && x - last < 2) continue;
    last = x;
    ring(chosen.found[n], colors.found, view.zoom < 3 ? 3 : 7);
  }
  const i = chosen.place;
  if (i < 0) return;
  const sent = run.message[i];
  c.globalAlpha = .35;
  c.fillStyle = colors.accent;
  c.fillRect(Math.round(xOf(i)), RULER - 4, 1, height);
  c.globalAlpha = 1;
  for (const k of ends.get(sent) || []) {
    const [x1, y1] = endOf(k);
    if (rowOf[run.node[sent]] < 0 || rowOf[run.peer[sent]] < 0) continue;
    c.strokeStyle = c.fillStyle = colors.kinds[kind[sent]];
    c.lineWidth = 2.8;
    c.setLineDash(arrows.again[k] ? [6, 4] : []);
    c.beginPath();
    line(c, xOf(sent), yOf(run.node[sent]), x1, y1);
    c.stroke();
    c.setLineDash([]);
    if (!arrows.lost[k]) {
      c.beginPath();
      head(c, xOf(sent), yOf(run.node[sent]), x1, y1);
      c.fill();
    }
  }
  ring(i, colors.accent, 8);
}

// Where an event's mark is: a lost message's is its cross.
function placeY(i) {
  if (run.what[i] === WHAT.Drop && run.message[i] >= 0) {
    const k = (ends.get(run.message[i]) || []).find(k => arrows.to[k] === i);
    if (k !== undefined) return endOf(k)[1];
  }
  return yOfEvent(i);
}

function drawNames(c, height) {
  c.fillStyle = colors.paper;
  c.fillRect(0, 0, GUTTER, height);
  c.fillStyle = colors.line;
  c.fillRect(GUTTER - 1, 0, 1, height);
  c.textAlign = "right";
  c.textBaseline = "middle";
  c.font = `10.5px ${colors.sans}`;
  c.fillStyle = colors.quiet;
  c.fillText("faults", GUTTER - 10, worldY());
  c.font = `600 12.5px ${colors.sans}`;
  c.save();
  c.beginPath();
  c.rect(0, rowsTop(), GUTTER, height);
  c.clip();
  for (let node = 0; node < nodes; node++) {
    if (!shown.node[node]) continue;
    const at = chosen.place >= 0 && run.node[chosen.place] === node;
    c.fillStyle = at ? colors.accent : colors.ink;
    c.fillText(run.nodes[node], GUTTER - 10, yOf(node), GUTTER - 14);
  }
  c.restore();
}

// The whole run: how dense it is, when nodes were down, what held, and the part in view.
function drawOverview() {
  const [c, width, height] = sized(overview);
  const inner = width - GUTTER - 12, at = u => GUTTER + u / axisEnd * inner;
  // A line of its own for each node: how much it does, and in red what it lost.
  const wide = Math.max(1, Math.ceil(inner)) + 1, first = 16, tall = (height - first - 4) / Math.max(1, rows);
  const counts = new Uint16Array(wide * Math.max(1, rows)), lost = new Uint16Array(counts.length);
  let most = 1;
  for (let i = 0; i < count; i++) {
    if (!visible[i] || run.node[i] < 0) continue;
    const cell = rowOf[run.node[i]] * wide + Math.floor(axis[i] / axisEnd * inner);
    most = Math.max(most, ++counts[cell]);
    if (run.what[i] === WHAT.Drop) lost[cell]++;
  }
  for (let cell = 0; cell < counts.length; cell++) {
    if (!counts[cell]) continue;
    const part = Math.log1p(counts[cell]) / Math.log1p(most), y = first + Math.floor(cell / wide) * tall;
    c.globalAlpha = lost[cell] ? .9 : .25 + .65 * part;
    c.fillStyle = lost[cell] ? colors.bad : colors.quiet;
    c.fillRect(GUTTER + cell % wide, y + tall * .15, 1.5, Math.max(1, tall * .7));
  }
  c.globalAlpha = 1;
  for (const band of run.bands) {
    const end = name => at(view.byTime ? band[name + "_us"] : band[name] >= count ? axisEnd : axis[band[name]]);
    c.globalAlpha = .5;
    c.fillStyle = bandColor(band);
    const between = band.sides.length > 1, row = rowOf[band.sides[0][0]];
    if (!between && row < 0) continue;
    c.fillRect(end("from"), between ? 4 : first + row * tall, Math.max(1, end("to") - end("from")), between ? 4 : tall);
  }
  c.globalAlpha = 1;
  c.fillStyle = colors.found;
  for (const i of chosen.found) c.fillRect(at(axis[i]), 9, 1.5, 6);
  if (run.failed_at >= 0) {
    c.fillStyle = colors.bad;
    c.fillRect(at(axis[run.failed_at]) - 1, 0, 2, height);
  }
  if (chosen.place >= 0) {
    c.fillStyle = colors.accent;
    c.fillRect(at(axis[chosen.place]) - 1, 0, 2, height);
  }
  const from = Math.max(GUTTER, at(uAt(GUTTER))), to = Math.min(width - 12, at(uAt(view.width)));
  c.fillStyle = c.strokeStyle = colors.accent;
  c.globalAlpha = .1;
  c.fillRect(from, 1, to - from, height - 2);
  c.globalAlpha = 1;
  c.lineWidth = 1.5;
  c.strokeRect(from, 1, Math.max(3, to - from), height - 2);
  c.fillStyle = colors.quiet;
  c.font = `10.5px ${colors.sans}`;
  c.textAlign = "right";
  c.textBaseline = "middle";
  c.fillText("whole run", GUTTER - 10, height / 2);
}
