// The run as it was recorded: columns of events, arrows of messages, states by node.

const run = JSON.parse(document.getElementById("run").textContent);
const count = run.what.length, nodes = run.nodes.length;
const WHAT = Object.fromEntries(run.whats.map((name, number) => [name, number]));
const STEPS = new Set(["Deliver", "Tick", "Command", "Link", "Start"].map(name => WHAT[name]));

// Times as they are, from the time since the event before.
const time = new Float64Array(count);
for (let i = 0, now = 0; i < count; i++) time[i] = now += run.time[i];

// A message's kind, for all events about it.
const kindOf = i => run.message[i] < 0 ? -1 : run.kind[run.message[i]];
const kind = Int32Array.from({ length: count }, (_, i) => kindOf(i));

// Arrows: from a send to a delivery, or to where the message was lost. A message that never came
// to an end within the run has none, and a stub is drawn for it.
const arrows = { from: [], to: [], lost: [], again: [] };
const ends = new Map(); // a send's place -> the arrows that begin there
for (let i = 0; i < count; i++) {
  const sent = run.message[i], what = run.what[i];
  if (what === WHAT.Send) ends.set(i, []);
  if (sent < 0 || (what !== WHAT.Deliver && what !== WHAT.Drop)) continue;
  const others = ends.get(sent);
  if (!others) continue;
  arrows.again.push(others.length > 0);
  others.push(arrows.to.length);
  arrows.from.push(sent);
  arrows.to.push(i);
  arrows.lost.push(what === WHAT.Drop);
}
// The earliest start of any arrow from here on: where a search among the ends may stop.
const earliest = new Int32Array(arrows.to.length);
for (let k = arrows.to.length - 1, least = count; k >= 0; k--) earliest[k] = least = Math.min(least, arrows.from[k]);
// What never arrived, by place of the send.
const pending = [...ends].filter(([, to]) => to.length === 0).map(([send]) => send);

// The first of an ascending sequence, as a function of its place, that is not below a value.
function lowerBound(length, at, value) {
  let low = 0, high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(middle) < value) low = middle + 1; else high = middle;
  }
  return low;
}

// Events by node, for stepping along one.
const eventsOf = Array.from({ length: nodes }, () => []);
for (let i = 0; i < count; i++) if (run.node[i] >= 0) eventsOf[run.node[i]].push(i);

// States: for each node and label, the places where its value changed.
const changes = Array.from({ length: nodes }, () => new Map());
for (let k = 0; k < run.states.length; k += 4) {
  const [place, node, label, value] = run.states.slice(k, k + 4);
  const lines = changes[node];
  if (!lines.has(label)) lines.set(label, { places: [], values: [] });
  const line = lines.get(label);
  line.places.push(place);
  line.values.push(value);
}

// A node's lines just before an event, and after it.
function stateAt(node, place) {
  const at = (line, limit) => {
    const k = lowerBound(line.places.length, n => line.places[n], limit) - 1;
    return k < 0 || line.values[k] < 0 ? null : run.values[line.values[k]];
  };
  return [...changes[node]].map(([label, line]) =>
    ({ label: run.labels[label], before: at(line, place), after: at(line, place + 1) }))
    .filter(line => line.before !== null || line.after !== null);
}

// The step that an event belongs to: the last input of its node, if no time has passed since.
function stepOf(place) {
  const node = run.node[place];
  if (node < 0) return -1;
  const own = eventsOf[node];
  let k = lowerBound(own.length, n => own[n], place);
  for (; k >= 0 && time[own[k]] === time[place]; k--) if (STEPS.has(run.what[own[k]])) return own[k];
  return -1;
}

// What a step did: the events of its node until the next step or a later time.
function effectsOf(step) {
  const node = run.node[step], own = eventsOf[node], effects = [];
  for (let k = lowerBound(own.length, n => own[n], step) + 1; k < own.length; k++) {
    const place = own[k];
    if (time[place] !== time[step] || STEPS.has(run.what[place]) || run.what[place] === WHAT.Sync) break;
    effects.push(place);
  }
  return effects;
}

// What led to an event (bit 1) and what came of it (bit 2), by happened-before: along each node,
// and from each send to its deliveries.
function causality(place) {
  const cone = new Uint8Array(count), node = run.node[place];
  if (node < 0) return null;
  const upTo = new Int32Array(nodes).fill(-1), since = new Int32Array(nodes).fill(count);
  upTo[node] = since[node] = place;
  for (let i = place; i >= 0; i--) {
    const at = run.node[i];
    if (at < 0 || i > upTo[at]) continue;
    cone[i] |= 1;
    const sent = run.message[i];
    if (run.what[i] === WHAT.Deliver && sent >= 0) upTo[run.node[sent]] = Math.max(upTo[run.node[sent]], sent);
  }
  for (let i = place; i < count; i++) {
    const at = run.node[i], sent = run.message[i];
    if (at < 0) continue;
    if (run.what[i] === WHAT.Deliver && sent >= 0 && cone[sent] & 2) since[at] = Math.min(since[at], i);
    if (i >= since[at]) cone[i] |= 2;
  }
  return cone;
}

const textOf = place => run.texts[run.text[place]];
const number = place => run.first + place;

function clock(us) {
  const s = us / 1e6;
  return s >= 60 ? `${Math.floor(s / 60)}:${(s % 60).toFixed(6).padStart(9, "0")}` : `${s.toFixed(6)} s`;
}
function span(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${+(us / 1e3).toPrecision(4)} ms`;
  return `${+(us / 1e6).toPrecision(4)} s`;
}

// The places of the events in whose text, kind, node or number there is `wanted`.
function searched(wanted) {
  wanted = wanted.trim().toLowerCase();
  if (!wanted) return [];
  const inText = run.texts.map(text => text.toLowerCase().includes(wanted));
  const inWhat = run.whats.map(name => name.toLowerCase().includes(wanted));
  const inKind = run.kinds.map(name => name.toLowerCase().includes(wanted));
  const inNode = run.nodes.map(name => name.toLowerCase() === wanted);
  const one = /^#?\d+$/.test(wanted) ? Number(wanted.replace("#", "")) - run.first : -1;
  const found = [];
  for (let i = 0; i < count; i++) {
    if (inText[run.text[i]] || inWhat[run.what[i]] || (kind[i] >= 0 && inKind[kind[i]])
      || (run.node[i] >= 0 && inNode[run.node[i]]) || i === one) found.push(i);
  }
  return found;
}
