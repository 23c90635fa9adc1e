"use strict";
// Draws one episode at a time from the JSON beside it. Every text goes through textContent: data is never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const tone = (place) => `var(--s${place % 6})`;
let episode = data.episodes[0], step = 0, timer = 0, watchers = [];

function make(tag, fields = {}, ...children) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
}

function draw(tag, fields) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(fields)) node.setAttribute(name, value);
  return node;
}

const short = (value) => (value === undefined || value === null ? "" : String(Number(value.toPrecision(3))).replace("-", "−"));
const percent = (share) => `${Math.round(100 * share)} %`;

// The plan that is in force at a step, and the value it holds for that step.
const planAt = (at) => episode.plans.findLast((plan) => plan.step <= at);
const planned = (key, element, at) => planAt(at)?.chunk[key]?.[element]?.[at - planAt(at).step];

function plot(title, unit, low, high, legend) {
  // A card with an empty plot from step 0 to the last, its range, a cursor, and a legend of [name, place, text at a step].
  const area = draw("svg", { viewBox: `0 0 ${Math.max(episode.length - 1, 1)} 1`, preserveAspectRatio: "none" });
  const cursor = make("i"), items = make("ul", { className: "legend" });
  const rows = legend.map(([name, place]) => {
    const value = make("span"), item = make("li", {}, `${name} `, value);
    item.style.setProperty("--tone", tone(place));
    items.append(item);
    return value;
  });
  const box = make("div", { className: "plot" }, area, make("b", { className: "high", textContent: short(high) }),
    make("b", { className: "low", textContent: short(low) }), cursor);
  const seek = (event) => {
    const edge = box.getBoundingClientRect();
    go(Math.round(((event.clientX - edge.left) / edge.width) * (episode.length - 1)));
  };
  box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); seek(event); });
  box.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
  watchers.push(() => {
    cursor.style.left = `${(100 * step) / Math.max(episode.length - 1, 1)}%`;
    rows.forEach((value, row) => { value.textContent = legend[row][2](step); });
  });
  const head = make("h3", { textContent: title }, unit ? make("small", { textContent: ` ${unit}` }) : "");
  return { card: make("div", { className: "card" }, head, box, items), area };
}

const scale = (low, high) => (value) => (high > low ? (high - value) / (high - low) : 0.5);
const points = (values, first, y) => values.map((value, i) => `${i ? "L" : "M"}${first + i} ${y(value)}`).join("");

function curve(area, path, place, kind = "") {
  const node = draw("path", { d: path, class: kind });
  node.style.setProperty("--tone", tone(place));
  area.append(node);
  return node;
}

function keyPanel(panel) {
  const acted = panel.kind === "action" ? episode.plans.filter((plan) => plan.chunk[panel.name]) : [];
  const all = [...panel.values.flat(), ...acted.flatMap((plan) => plan.chunk[panel.name].flat())];
  const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
  const legend = panel.elements.map((name, d) => [name, d, (at) => {
    const other = panel.kind === "action" ? planned(panel.name, d, at) : undefined;
    return short(panel.values[d][at]) + (other === undefined ? "" : ` (${short(other)})`);
  }]);
  const { card, area } = plot(panel.name.replaceAll("_", " "), panel.unit, low, high, legend);
  const y = scale(low, high), last = episode.length;
  const cut = (plan, d, most) => points(plan.chunk[panel.name][d].slice(0, Math.min(most, last - plan.step)), plan.step, y);
  panel.elements.forEach((_, d) => {
    curve(area, points(panel.values[d], 0, y), d);
    if (!acted.length) return;
    curve(area, acted.map((plan) => cut(plan, d, data.every)).join(""), d, "done");
    const now = curve(area, "", d, "now");
    watchers.push(() => now.setAttribute("d", cut(planAt(step), d, Infinity)));
  });
  return card;
}

// What holds from each plan to the next one.
const spans = () => episode.plans.map((plan, i) => [plan, episode.plans[i + 1]?.step ?? episode.length - 1]);

function rhoPanel() {
  const high = episode.plans.flatMap((plan) => plan.rho).reduce((a, b) => Math.max(a, b), 0), y = scale(0, high);
  const names = episode.plans[0].rho.map((_, e) => data.edges[e] ?? `edge ${e + 1}`);
  const legend = names.map((name, e) => [name, e, (at) => short(planAt(at).rho[e])]);
  const { card, area } = plot("disagreement ρ", "0: consensus", 0, high, legend);
  names.forEach((_, e) => curve(area, spans().map(([plan, end], i) =>
    `${i ? "L" : "M"}${plan.step} ${y(plan.rho[e])}L${end} ${y(plan.rho[e])}`).join(""), e));
  return card;
}

function routesPanel() {
  const names = episode.plans[0].routes.map((_, s) => data.streams[s] ?? `stream ${s + 1}`);
  const legend = names.map((name, s) => [name, s, (at) => percent(planAt(at).routes[s])]);
  const { card, area } = plot("routes", "share of each stream", 0, 1, legend);
  for (const [plan, end] of spans()) {
    let top = 0;
    plan.routes.forEach((share, s) => {
      const cell = draw("rect", { x: plan.step, y: top, width: end - plan.step, height: share });
      cell.style.setProperty("--tone", tone(s));
      area.append(cell);
      top += share;
    });
  }
  return card;
}

function agesPanel() {
  // A column for each plan, a cell for each remembered step; the darker, the more of the attention.
  const shares = episode.plans.map((plan) => Object.entries(plan.ages).map(([back, share]) => [Number(back), share]));
  const top = shares.flat().reduce((a, [, share]) => Math.max(a, share), 0);
  const size = shares.flat().reduce((a, [back]) => (back ? Math.min(a, back) : a), episode.length);
  const last = Math.max(episode.length - 1, 1);
  const most = (at) => {
    const [back, share] = Object.entries(planAt(at).ages).reduce((a, b) => (b[1] > a[1] ? b : a));
    return `${Number(back) ? `${back} steps back` : "now"} ${percent(share)}`;
  };
  const { card, area } = plot("memory", "step it looks at", 0, last, [["most", 4, most]]);
  spans().forEach(([plan, end], i) => shares[i].forEach(([back, share]) => {
    const low = Math.max(plan.step - back, 0);
    const cell = draw("rect", { x: plan.step, y: 1 - Math.min(low + size, last) / last, width: end - plan.step, height: Math.min(size, last - low) / last });
    cell.style.setProperty("--tone", tone(4));
    cell.style.opacity = share / top;
    area.append(cell);
  }));
  return card;
}

function words() {
  // The instruction at this step: under each word its label, and where the router sends it.
  const saying = episode.sayings.findLast((one) => one.step <= step), routed = planAt(step)?.words ?? [];
  $("saying").textContent = saying.text;
  $("words").replaceChildren(...saying.words.map((word, place) => {
    const item = make("li", {}, make("span", { textContent: word.text })), shares = routed[place] ?? [];
    const label = make("b", { textContent: word.labels.join(", ") || "–" });
    if (word.labels.length) label.style.setProperty("--tone", tone(data.labels.indexOf(word.labels[0])));
    item.append(make("small", {}, label));
    if (shares.length) {
      const parts = shares.map((share, s) => {
        const part = make("i");
        part.style.setProperty("--tone", tone(s));
        part.style.flex = share;
        return part;
      });
      item.append(make("span", { className: "stack" }, ...parts),
        make("small", { textContent: shares.map((share) => Math.round(100 * share)).join(" ") }));
    }
    return item;
  }));
}

function cameras() {
  const shown = episode.steps.findLastIndex((one) => one <= step);
  episode.cameras.forEach((camera, place) => {
    const [picture, text] = $("cameras").children[place].children;
    picture.src = camera.pictures[shown];
    text.textContent = `${camera.name}, step ${episode.steps[shown]}`;
  });
}

function go(wanted) {
  step = Math.min(Math.max(wanted, 0), episode.length - 1);
  $("step").value = step;
  $("when").textContent = `${step} of ${episode.length - 1}, ${(step / data.fps).toFixed(2)} s`;
  words();
  cameras();
  watchers.forEach((watch) => watch());
}

function open(place) {
  episode = data.episodes[place];
  watchers = [];
  $("which").textContent = `${episode.index}${episode.split ? ` (${episode.split})` : ""}, ${place + 1} of ${data.episodes.length}`;
  $("step").max = episode.length - 1;
  $("cameras").replaceChildren(...episode.cameras.map((camera) =>
    make("figure", {}, make("img", { alt: camera.name }), make("figcaption"))));
  const cards = (kind) => episode.panels.filter((panel) => panel.kind === kind).map(keyPanel);
  for (const kind of ["action", "state"]) $(kind).replaceChildren(...cards(kind));
  const spoken = episode.plans.length > 0 && episode.plans[0].rho.length > 0;
  const recalls = episode.plans.some((plan) => Object.keys(plan.ages).length);
  $("streams-part").hidden = !spoken && !recalls;
  $("streams-head").textContent = [spoken ? "Streams" : "", recalls ? "memory" : ""].filter(Boolean).join(" and ");
  $("streams").replaceChildren(...(spoken ? [rhoPanel(), routesPanel()] : []), ...(recalls ? [agesPanel()] : []));
  $("words-part").hidden = !episode.sayings.some((saying) => saying.words.length);
  $("words-note").textContent = "Weak label of each word" + (spoken ? `; below it where the router sends it, in percent: ${data.streams.join(", ")}.` : ".");
  $("actions-note").textContent = data.policy
    ? `Solid: recorded. Dotted: the steps of each chunk that would be executed. Dashed: the chunk at the cursor; its value stands in brackets.` : "";
  $("still").textContent = episode.still.length ? `Hardly change here: ${episode.still.join(", ")}.` : "";
  go(0);
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => (step < episode.length - 1 ? go(step + 1) : play(false)), 1000 / data.fps) : 0;
  $("play").textContent = on ? "Stop" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
}

$("episode").addEventListener("input", (event) => { play(false); open(Number(event.target.value)); });
$("step").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
$("play").addEventListener("click", () => {
  const on = !timer;
  if (on && step === episode.length - 1) go(0);
  play(on);
});
open(0);
