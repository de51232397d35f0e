// A visit to the page of a run: see picture.rs.
{
  const answers = {};
  const pixels = canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const colors = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 0) colors.add((data[i] >> 4) + "," + (data[i + 1] >> 4) + "," + (data[i + 2] >> 4));
    return colors.size;
  };
  draw(); drawOverview();
  answers["draws"] = pixels(canvas) > 8;
  answers["draws the overview"] = pixels(overview) > 2;
  answers["no text became markup"] = window.hacked === undefined;
  const some = run.node.findIndex((node, i) => node >= 0 && run.what[i] !== WHAT.Drop && i >= count / 2);
  choose(some, true); draw();
  answers["tells of the event"] = byId("event").textContent.includes("#" + number(some));
  const box = canvas.getBoundingClientRect();
  const at = kind => new PointerEvent(kind, { clientX: box.left + xOf(some), clientY: box.top + yOfEvent(some), pointerId: 1, bubbles: true });
  canvas.dispatchEvent(at("pointermove"));
  answers["hovers"] = !byId("tip").hidden && byId("tip").textContent.includes("#");
  const states = changes.some(node => node.size);
  const step = run.what.findLastIndex((what, i) => STEPS.has(what) && run.node[i] >= 0);
  choose(step, true);
  answers["shows the state"] = !states || byId("event").querySelector("table") !== null;
  byId("search").value = run.whats[run.what[some]]; byId("search").dispatchEvent(new Event("input"));
  answers["finds"] = chosen.found.length > 0;
  dispatchEvent(new KeyboardEvent("keydown", { key: "n" }));
  answers["goes to what it found"] = chosen.found.includes(chosen.place);
  const before = visible.reduce((sum, one) => sum + one, 0);
  byId("by-what").querySelector("button").click();
  answers["filters"] = visible.reduce((sum, one) => sum + one, 0) < before;
  byId("by-what").querySelector("button").click();
  dispatchEvent(new KeyboardEvent("keydown", { key: "t" })); draw();
  answers["shows by time"] = view.byTime && pixels(canvas) > 6;
  dispatchEvent(new KeyboardEvent("keydown", { key: "c" })); draw();
  answers["knows causes"] = chosen.cone === null || chosen.cone[chosen.place] === 3;
  dispatchEvent(new KeyboardEvent("keydown", { key: "0" })); draw();
  answers["fits"] = xOf(0) >= GUTTER && xOf(count - 1) <= view.width;
  const wrong = Object.keys(answers).filter(name => answers[name] !== true);
  document.documentElement.dataset.visit = wrong.length ? wrong.join(", ") : "all well";
}
