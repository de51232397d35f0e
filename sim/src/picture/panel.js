// What is told of an event, and the filters. Everything from the run goes in as text, never as markup.

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
const link = (place, text = `#${number(place)}`) => element("a", { onclick: () => choose(place, true) }, text);
const title = place => run.whats[run.what[place]] + (kind[place] >= 0 ? ` ${run.kinds[kind[place]]}` : "");

// Rust's debug text with a line for each field, where it is too long for one.
function pretty(text) {
  if (text.length < 56) return text;
  let out = "", depth = 0, quoted = false;
  const newline = () => out += "\n" + "  ".repeat(Math.min(depth, 12));
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      out += char;
      if (char === "\\") out += text[++i] ?? "";
      else if (char === '"') quoted = false;
      continue;
    }
    if (char === '"') quoted = true;
    if ("{[(".includes(char)) {
      // Short groups stay on their line.
      const end = closing(text, i);
      if (end > 0 && end - i < 48) { out += text.slice(i, end + 1); i = end; continue; }
      depth++;
      out += char;
      newline();
      while (text[i + 1] === " ") i++;
    } else if ("}])".includes(char)) {
      depth = Math.max(0, depth - 1);
      out = out.trimEnd();
      newline();
      out += char;
    } else if (char === "," && depth > 0) {
      out += char;
      newline();
      while (text[i + 1] === " ") i++;
    } else out += char;
  }
  return out;
}
function closing(text, from) {
  let depth = 0;
  for (let i = from, quoted = false; i < Math.min(text.length, from + 60); i++) {
    if (text[i] === '"' && text[i - 1] !== "\\") quoted = !quoted;
    if (quoted) continue;
    if ("{[(".includes(text[i])) depth++;
    if ("}])".includes(text[i]) && --depth === 0) return i;
  }
  return -1;
}

// A value with the words marked that the other one does not have.
function marked(value, other, tag) {
  if (value === null) return [element("span", { className: "quiet" }, "—")];
  if (other === null || other === value) return [value];
  const words = new Set(other.split(/[\s,;]+/));
  return value.split(/([\s,;]+)/).map(word =>
    !word || /^[\s,;]+$/.test(word) || words.has(word) ? word : element(tag, {}, word));
}

function stateTable(place, onlyChanged) {
  const node = run.node[place], step = stepOf(place), at = step >= 0 ? step : place;
  if (node < 0 || !changes[node].size) return null;
  const lines = stateAt(node, at).filter(line => !onlyChanged || line.before !== line.after);
  if (!lines.length) return null;
  return element("table", {},
    element("tr", {}, ...["", "before", "after"].map(text => element("th", {}, text))),
    ...lines.map(({ label, before, after }) => {
      const changed = before !== after;
      const row = element("tr", { className: changed ? "changed" : "" }, element("td", {}, label));
      if (!changed) row.append(element("td", { colSpan: 2 }, after));
      else row.append(element("td", {}, ...marked(before, after, "del")), element("td", {}, ...marked(after, before, "ins")));
      return row;
    }));
}

function facts(place) {
  const list = [["time", `${clock(time[place])}`]], what = run.what[place], node = run.node[place], peer = run.peer[place];
  if (node >= 0) list.push([what === WHAT.Send || kind[place] >= 0 && what !== WHAT.Deliver ? "from" : "at", run.nodes[node]]);
  if (peer >= 0) list.push([what === WHAT.Deliver ? "from" : what === WHAT.Send || kind[place] >= 0 ? "to" : "with", run.nodes[peer]]);
  const sent = run.message[place];
  if (sent >= 0) {
    if (sent !== place) list.push(["sent", element("span", {}, link(sent), ` ${span(time[place] - time[sent])} before`)]);
    for (const k of ends.get(sent) || []) {
      const to = arrows.to[k];
      if (to === place) continue;
      const name = arrows.lost[k] ? "lost" : arrows.again[k] ? "again" : "delivered";
      list.push([name, element("span", {}, link(to), ` ${span(time[to] - time[sent])} after it was sent`)]);
    }
    if (sent === place && !(ends.get(sent) || []).length) list.push(["then", "neither delivered nor lost within the run"]);
  }
  const step = stepOf(place);
  if (step >= 0 && step !== place) list.push(["in step", element("span", {}, link(step), ` ${title(step)}`)]);
  return element("dl", { className: "facts" }, ...list.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function showEvent() {
  const section = document.getElementById("event"), place = chosen.place;
  if (place < 0) {
    section.replaceChildren(element("h2", {}, "Nothing chosen"),
      element("p", { className: "quiet" }, "Choose an event or an arrow to see its message, its node's state before and after, and what came of it."));
    return;
  }
  const sent = run.message[place], what = run.what[place];
  const own = textOf(place), parts = [element("h2", {}, `#${number(place)} ${title(place)}`)];
  if (place === run.failed_at) parts.push(element("p", {}, element("span", { className: "chip bad" }, "here it failed")));
  parts.push(facts(place));
  if (what === WHAT.Drop && own) parts.push(element("p", {}, "lost: ", element("b", {}, own)));
  const text = sent >= 0 && what !== WHAT.Deliver ? textOf(sent) : own;
  if (text) parts.push(element("pre", {}, pretty(text)));
  const step = stepOf(place), effects = step >= 0 ? effectsOf(step) : [];
  if (effects.length) {
    parts.push(element("h3", {}, "the step did"), element("ul", { className: "effects" }, ...effects.slice(0, 200).map(effect =>
      element("li", {}, link(effect, title(effect)), " ", element("span", { className: "quiet" },
        run.what[effect] === WHAT.Send ? `to ${run.nodes[run.peer[effect]]}` : textOf(effect).slice(0, 90))))));
  }
  const table = stateTable(place, false);
  if (table) parts.push(element("h3", {}, `state of ${run.nodes[run.node[place]]}`), table);
  section.replaceChildren(...parts);
}

function showTip(place, x, y) {
  const tip = document.getElementById("tip");
  tip.hidden = place < 0;
  if (place < 0) return;
  const node = run.node[place], peer = run.peer[place], sent = run.message[place];
  const where = node < 0 ? "" : peer < 0 ? run.nodes[node]
    : run.what[place] === WHAT.Deliver ? `${run.nodes[peer]} → ${run.nodes[node]}`
      : kind[place] >= 0 ? `${run.nodes[node]} → ${run.nodes[peer]}` : `${run.nodes[node]}, ${run.nodes[peer]}`;
  const text = (run.what[place] === WHAT.Drop && sent >= 0 ? `${textOf(place)}: ${textOf(sent)}` : textOf(place)) || "";
  tip.replaceChildren(element("b", {}, title(place)), ` ${where} `,
    element("span", { className: "quiet" }, `#${number(place)} at ${clock(time[place])}`),
    text ? element("code", {}, text.length > 260 ? text.slice(0, 260) + "…" : text) : null);
  const table = stateTable(place, true);
  if (table) tip.append(table);
  const stage = document.getElementById("stage").getBoundingClientRect(), box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, stage.width - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > stage.height ? Math.max(4, y - box.height - 14) : y + 18}px`;
}

// A chip for each kind: a click shows or hides it; with Alt, or twice, it alone is shown.
function filters() {
  const tally = (length, of) => {
    const counts = new Array(length).fill(0);
    for (let i = 0; i < count; i++) { const n = of(i); if (n >= 0) counts[n]++; }
    return counts;
  };
  const fill = (id, names, list, counts, color) => {
    const chips = [];
    const refresh = () => {
      chips.forEach(([n, chip]) => {
        chip.classList.toggle("off", !list[n]);
        chip.setAttribute("aria-pressed", list[n]);
      });
      relaid();
      redraw();
    };
    names.forEach((name, n) => {
      if (!counts[n]) return;
      const alone = () => {
        const already = list.every((on, other) => on === (other === n) || !counts[other]);
        list.forEach((_, other) => list[other] = already || other === n);
        refresh();
      };
      const chip = element("button", { title: "Alt+click or double click: this alone",
        onclick: event => { if (event.altKey) alone(); else { list[n] = !list[n]; refresh(); } }, ondblclick: alone },
        color ? element("i", { style: `background: var(--m${n % 10})` }) : null, name, element("small", {}, counts[n].toLocaleString("en")));
      chips.push([n, chip]);
    });
    document.getElementById(id).replaceChildren(...chips.map(([, chip]) => chip));
  };
  fill("by-what", run.whats, shown.what, tally(run.whats.length, i => run.what[i]), false);
  fill("by-kind", run.kinds, shown.kind, tally(run.kinds.length, i => run.what[i] === WHAT.Send ? kind[i] : -1), true);
  fill("by-node", run.nodes, shown.node, tally(nodes, i => run.node[i]), false);
}
