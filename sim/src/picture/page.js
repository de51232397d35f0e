// The page: its head, what is chosen, the pointer, the keys.

const byId = id => document.getElementById(id);
let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    drawOverview();
    byId("by-order").classList.toggle("on", !view.byTime);
    byId("by-time").classList.toggle("on", view.byTime);
    byId("cone").classList.toggle("on", chosen.dim);
  });
}

function choose(place, go = false) {
  chosen.place = place;
  chosen.cone = place >= 0 && chosen.dim ? causality(place) : null;
  if (place >= 0 && go) showPlace(place, view.byTime ? 0 : 14);
  showEvent();
  history.replaceState(null, "", place >= 0 ? `#${number(place)}` : location.pathname);
  redraw();
}

function setAxis(byTime) {
  if (view.byTime === byTime) return;
  const place = chosen.place >= 0 ? chosen.place : Math.min(Math.max(0, count - 1), placeAt(uAt((view.width + GUTTER) / 2)));
  const whole = view.zoom <= zoomFit() * 1.05;
  // About as many events stay in view.
  const low = Math.max(0, placeAt(uAt(GUTTER)) - 1), high = Math.min(count - 1, placeAt(uAt(view.width)));
  view.byTime = byTime;
  layOut();
  if (whole || count === 0) fit();
  else {
    view.zoom = (view.width - GUTTER) / Math.max(byTime ? 50 : 5, axis[high] - axis[low]);
    view.left = axis[place] - (view.width - GUTTER) / 2 / view.zoom;
  }
  redraw();
}

// What is under the pointer: an event, or the end of an arrow.
function under(x, y) {
  if (x < GUTTER) return -1;
  let best = -1, least = 9;
  const near = i => {
    if (!visible[i]) return;
    const distance = Math.hypot(xOf(i) - x, placeY(i) - y);
    if (distance < least) { least = distance; best = i; }
  };
  const low = placeAt(uAt(x - 9)), high = Math.min(count, placeAt(uAt(x + 9)) + 1);
  for (let i = low; i < Math.min(high, low + 20000); i++) near(i);
  if (best >= 0 || drawn.length > ARROWS_MAX) return best;
  for (const { k, x0, y0, x1, y1 } of drawn) {
    const long = (x1 - x0) ** 2 + (y1 - y0) ** 2 || 1;
    const part = Math.max(0, Math.min(1, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / long));
    const distance = Math.hypot(x0 + part * (x1 - x0) - x, y0 + part * (y1 - y0) - y);
    if (distance < Math.min(least, 5)) { least = distance; best = arrows.to[k]; }
  }
  return best;
}

function pointer() {
  let drag = null;
  canvas.addEventListener("pointerdown", event => {
    drag = { x: event.clientX, y: event.clientY, left: view.left, top: view.top, moved: false };
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", event => {
    if (drag) {
      const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
      drag.moved ||= Math.hypot(dx, dy) > 4;
      if (!drag.moved) return;
      canvas.classList.add("dragged");
      showTip(-1);
      view.left = drag.left - dx / view.zoom;
      view.top = drag.top - dy;
      redraw();
      return;
    }
    const { offsetX: x, offsetY: y } = event, place = under(x, y);
    canvas.classList.toggle("over", place >= 0);
    showTip(place, x, y);
  });
  canvas.addEventListener("pointerup", event => {
    canvas.classList.remove("dragged");
    if (drag && !drag.moved) choose(under(event.offsetX, event.offsetY));
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => showTip(-1));
  canvas.addEventListener("dblclick", event => { zoomBy(2.5, event.offsetX); redraw(); });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1, dx = event.deltaX * unit, dy = event.deltaY * unit;
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) view.left += (dx || dy) / view.zoom;
    else zoomBy(Math.exp(-dy * .0022), event.offsetX);
    showTip(-1);
    redraw();
  }, { passive: false });

  const jump = event => {
    const box = overview.getBoundingClientRect();
    const u = (event.clientX - box.left - GUTTER) / (box.width - GUTTER - 12) * axisEnd;
    view.left = u - (view.width - GUTTER) / 2 / view.zoom;
    redraw();
  };
  overview.addEventListener("pointerdown", event => {
    try { overview.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    // On the whole run there is nothing to move: a click goes in.
    if (view.zoom <= zoomFit() * 1.05) view.zoom = Math.min(view.byTime ? zoomFit() * 20 : 12, zoomMost());
    jump(event);
  });
  overview.addEventListener("pointermove", event => { if (event.buttons) jump(event); });
}

function find(text) {
  chosen.found = searched(text);
  byId("found").textContent = text.trim() ? `${chosen.found.length.toLocaleString("en")}` : "";
  redraw();
}
function nextFound(way) {
  const found = chosen.found, total = found.length;
  if (!total) return;
  const here = chosen.place;
  let n = way > 0 ? lowerBound(total, k => found[k], here + 1) : lowerBound(total, k => found[k], here) - 1;
  n = (n + total) % total;
  choose(found[n], true);
  byId("found").textContent = `${n + 1} / ${total.toLocaleString("en")}`;
}

function along(way, sameNode) {
  const here = chosen.place;
  if (here < 0) return choose(Math.max(0, Math.min(count - 1, placeAt(uAt((view.width + GUTTER) / 2)))), true);
  for (let i = here + way; i >= 0 && i < count; i += way) {
    if (visible[i] && (!sameNode || run.node[i] === run.node[here])) return choose(i, true);
  }
}
// The other end of the chosen event's message.
function across() {
  const sent = chosen.place < 0 ? -1 : run.message[chosen.place], to = ends.get(sent) || [];
  if (sent < 0) return;
  if (sent !== chosen.place) return choose(sent, true);
  if (to.length) choose(arrows.to[to[0]], true);
}
function dim() {
  chosen.dim = !chosen.dim;
  chosen.cone = chosen.dim && chosen.place >= 0 ? causality(chosen.place) : null;
  redraw();
}
const whole = () => { fit(); redraw(); };
const nearer = factor => { zoomBy(factor, chosen.place >= 0 && xOf(chosen.place) > GUTTER && xOf(chosen.place) < view.width ? xOf(chosen.place) : undefined); redraw(); };
const failure = () => { if (run.failed_at >= 0) choose(run.failed_at, true); };
const keys = () => byId("keys").hidden = !byId("keys").hidden;

function keyboard(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof HTMLInputElement;
  if (typing) {
    if (event.key === "Enter") nextFound(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") canvas.focus();
    return;
  }
  const acts = {
    ArrowLeft: () => along(-1, event.shiftKey), ArrowRight: () => along(1, event.shiftKey),
    "+": () => nearer(1.6), "=": () => nearer(1.6), "-": () => nearer(1 / 1.6), "0": whole,
    Home: () => choose(0, true), End: () => choose(count - 1, true), e: failure, m: across,
    "/": () => byId("search").focus(), n: () => nextFound(1), N: () => nextFound(-1),
    t: () => setAxis(!view.byTime), c: dim, "?": keys,
    Escape: () => { byId("keys").hidden = true; choose(-1); },
  };
  if (!acts[event.key] || count === 0) return;
  event.preventDefault();
  showTip(-1);
  acts[event.key]();
}

function heading() {
  byId("scenario").textContent = run.scenario;
  byId("about").textContent = run.about;
  byId("seed").textContent = run.seed;
  byId("replay").textContent = run.replay;
  const end = count ? clock(time[count - 1]) : "";
  byId("size").textContent = `${count.toLocaleString("en")} events, ${nodes} nodes, ${end}, trace ${run.hash}`;
  byId("verdict").textContent = run.failure ? "failed" : "everything held";
  byId("verdict").classList.add(run.failure ? "bad" : "good");
  byId("failure").hidden = !run.failure;
  byId("failure").textContent = run.failure || "";
  byId("to-failure").hidden = run.failed_at < 0;
  byId("notes").hidden = run.notes.length === 0;
  byId("notes").textContent = run.notes.join("; ");
  byId("copy").onclick = () => navigator.clipboard?.writeText(run.replay)
    .then(() => { byId("copy").textContent = "copied"; setTimeout(() => byId("copy").textContent = "copy", 1200); });
}

function begin() {
  heading();
  readColors();
  layOut();
  draw();
  fit();
  filters();
  pointer();
  Object.assign(byId("search"), { oninput: event => find(event.target.value) });
  const buttons = {
    before: () => nextFound(-1), after: () => nextFound(1), "by-order": () => setAxis(false), "by-time": () => setAxis(true),
    in: () => nearer(1.6), out: () => nearer(1 / 1.6), fit: whole, "to-failure": failure, cone: dim, help: keys,
  };
  for (const [id, act] of Object.entries(buttons)) byId(id).onclick = act;
  addEventListener("keydown", keyboard);
  new ResizeObserver(redraw).observe(byId("stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); redraw(); });
  const wanted = Number(location.hash.slice(1)) - run.first;
  if (location.hash && wanted >= 0 && wanted < count) choose(wanted, true);
  else if (run.failed_at >= 0) choose(run.failed_at, true);
  else showEvent();
  redraw();
}

addEventListener("error", event => document.documentElement.dataset.error = event.message);
begin();
