// The report page: draws the data of #data, sorts and searches its tables. Text is only ever set as text.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SPACE = "\u202f"; // narrow and non-breaking

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Numbers for people, as compressit/formatting.py writes them

function format(value, unit) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  if (unit === "fraction") return percent(value, 2);
  if (unit === "bits") return value.toFixed(2);
  if (unit === "seconds") return duration(value);
  return grouped(value);
}

function percent(fraction, decimals) {
  const flat = (d) => [0, 100].includes(Math.abs(Number((100 * fraction).toFixed(d))));
  while (decimals < 6 && fraction !== 0 && fraction !== 1 && flat(decimals)) decimals += 1;
  return `${(100 * fraction).toFixed(decimals)}${SPACE}%`;
}

function grouped(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value).replace(/\B(?=(\d{3})+$)/g, SPACE);
  return short(value, 4);
}

function short(value, digits) { // like %.4g
  const exponent = value === 0 ? 0 : Number(value.toExponential(digits - 1).split("e")[1]);
  if (exponent >= -4 && exponent < digits) {
    const fixed = value.toFixed(Math.max(0, digits - 1 - exponent));
    return fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed;
  }
  const [number, power] = value.toExponential(digits - 1).split("e");
  const trimmed = number.includes(".") ? number.replace(/\.?0+$/, "") : number;
  return `${trimmed}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}

function duration(seconds) {
  seconds = Math.max(seconds, 0);
  if (seconds > 0 && seconds < 0.1) return `${short(seconds * 1000, 3)} ms`;
  if (seconds < 60) return `${short(seconds, 3)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function overSeeds([mean, deviation, low, high, count], unit) { // as statistics.mean_and_deviation
  const own = format(mean, unit);
  if (deviation === null) return `${own} (${count})`;
  if (unit === "fraction") {
    const [spread, from, to] = [deviation, low, high].map((x) => (100 * x).toFixed(2));
    return `${own.slice(0, -2)} ± ${spread}${SPACE}% [${from}, ${to}] (${count})`;
  }
  return `${own} ± ${format(deviation, unit)} [${format(low, unit)}, ${format(high, unit)}] (${count})`;
}

const cellText = (cell, unit) => (Array.isArray(cell) ? overSeeds(cell, unit) : format(cell, unit));
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// Tables that sort and are searched

function buildTable(place, { columns, rows, left_out, columns_left_out }) {
  const caption = [place.dataset.caption];
  if (left_out) caption.push(`The last ${left_out} rows are omitted.`);
  if (columns_left_out) caption.push(`The last ${columns_left_out} columns are omitted.`);
  const table = make("table");
  table.createCaption().append(make("span", caption.join(" ")));
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  const lines = rows.map((cells) => {
    const line = make("tr");
    cells.forEach((cell, index) => line.append(buildCell(cell, columns[index].unit, index)));
    body.append(line);
    return { line, cells, text: line.textContent.toLowerCase() };
  });
  columns.forEach((column, index) => {
    const th = make("th", undefined, { scope: "col" });
    const button = make("button", column.label, { type: "button" });
    if (column.about) button.title = column.about;
    button.addEventListener("click", () => sortBy(index, th));
    th.append(button);
    head.append(th);
  });

  function sortBy(index, th) {
    const falling = th.getAttribute("aria-sort") === "ascending";
    for (const other of head.children) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = ({ cells }) => (Array.isArray(cells[index]) ? cells[index][0] : cells[index]);
    const order = new Intl.Collator("en", { numeric: true }).compare;
    lines.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // empty cells last, in both directions
      const way = typeof x === "number" && typeof y === "number" ? x - y : order(String(x), String(y));
      return falling ? -way : way;
    });
    body.append(...lines.map(({ line }) => line));
  }

  const search = make("input", undefined, { type: "search", autocomplete: "off", spellcheck: "false" });
  const label = make("label", "Search ");
  label.append(search);
  const count = make("span", "", { role: "status", class: "quiet" });
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { line, text } of lines) {
      line.hidden = !words.every((word) => text.includes(word));
      shown += !line.hidden;
    }
    count.textContent = words.length ? `${shown} of ${lines.length} rows` : "";
  });
  const finder = make("div", undefined, { class: "finder" });
  finder.append(label, count);
  const wide = make("div", undefined, { class: "wide", tabindex: "0", role: "region", "aria-label": "Table, scrolls" });
  wide.append(table);
  place.replaceChildren(finder, wide);
}

function buildCell(cell, unit, index) {
  if (index === 0) return make("th", cellText(cell, unit), { scope: "row", title: String(cell) });
  const td = make("td", unit === "link" && cell ? undefined : cellText(cell, unit));
  if (unit === "link" && typeof cell === "string" && cell.startsWith("./")) td.append(make("a", "file", { href: cell }));
  return td;
}

function buildNumbers() {
  for (const [name, table] of Object.entries(data.tables)) buildTable(byId(`table-${name}`), table);
  const meanings = byId("meanings");
  const columns = data.tables.models.columns.filter((column) => column.about);
  for (const { label, about } of columns) meanings.querySelector("dl").append(make("dt", label), make("dd", about));
  if (!columns.length) meanings.remove();
}

// Pictures

const COLOURS = 10;
const colourOf = (groups) => (group) => `var(--c${groups.indexOf(group) % COLOURS})`;
const unique = (items) => [...new Set(items)];

function tick(unit) {
  if (unit === "fraction") return (x) => `${short(100 * x, 4)}${SPACE}%`;
  if (unit === "seconds") return duration;
  if (unit === "count") return d3.format("~s");
  if (unit === "bytes") return (x) => `${d3.format("~s")(x)}B`;
  return (x) => short(x, 4);
}

function choose(select, columns, drawAgain) {
  columns.forEach((column, index) => select.append(make("option", cut(column.label, 60), { value: index })));
  select.addEventListener("change", drawAgain);
  return () => columns[Number(select.value)];
}

// Draws now, and again whenever the place has another width.
function drawnIn(place, draw) {
  let width = 0;
  const again = () => { if (place.clientWidth) draw((width = place.clientWidth)); };
  new ResizeObserver(() => { if (Math.abs(place.clientWidth - width) > 4) again(); }).observe(place);
  return again;
}

const pixels = (width) => Math.max(260, Math.min(380, Math.round(width * (width < 500 ? 0.85 : 0.42))));

function buildFront({ metrics, costs, points, limits, left_out }) {
  const place = byId("front-drawing");
  const log = byId("front-log");
  const groups = unique(points.filter((p) => p.kind !== "original").map((p) => p.group));
  const colour = colourOf(groups);
  const again = drawnIn(place, draw);
  const cost = choose(byId("front-cost"), costs, () => { log.checked = wide(); again(); });
  const metric = choose(byId("front-metric"), metrics, again);
  log.addEventListener("change", again);
  log.checked = wide();
  again();

  function spread() { return points.map((p) => p.values[cost().name]).filter(Boolean).map((v) => v[0]); }
  function wide() { return Math.min(...spread()) > 0 && Math.max(...spread()) > 8 * Math.min(...spread()); }

  function draw(width) {
    const [x, y] = [cost(), metric()];
    log.disabled = !(Math.min(...spread()) > 0);
    const shown = points.filter((p) => p.values[x.name] && p.values[y.name]).map((p) => {
      const [[across, left, right], [up, low, high, count]] = [p.values[x.name], p.values[y.name]];
      const colours = p.kind === "original" ? "currentColor" : colour(p.group);
      return { ...p, x: across, left, right, y: up, low, high, colour: colours, said: said(p, x, y, count) };
    });
    const height = pixels(width);
    const options = {
      width, height, marginLeft: 58, marginBottom: 42, marginRight: 20, marginTop: 26,
      style: { fontSize: "12px", fontFamily: "inherit", overflow: "visible" },
      color: { type: "identity" }, symbol: { type: "identity" },
      x: {
        type: log.checked && !log.disabled ? "log" : "linear", label: `${x.label} (cheaper to the left)`,
        labelArrow: "none", labelAnchor: "center", tickFormat: tick(x.unit), nice: !log.checked,
        insetLeft: 14, insetRight: width < 500 ? 26 : 52, ticks: Math.max(3, Math.floor(width / 110)), domain: domain(shown, "x", limits, x),
      },
      y: {
        label: `${y.label}${y.unit === "fraction" ? "" : ` (${y.unit || "no unit"})`}`, labelArrow: y.better === "lower" ? "down" : "up",
        tickFormat: tick(y.unit), grid: true, inset: 10, ticks: 6,
      },
    };
    const scales = Plot.plot({ ...options, marks: marksOf(shown, limits, x, y) });
    sideBySide(shown, scales);
    const marks = marksOf(shown, limits, x, y);
    const svg = Plot.plot({ ...options, marks: [...marks, ...labels(shown, scales, width), tip(shown, width, (p) => p.said.join("\n"))] });
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${y.label} against ${x.label}, ${shown.length} models; the table below has the numbers. Arrow keys move between the models.`);
    place.replaceChildren(svg);
    reachable(svg, shown);
    byId("front-controls").hidden = !shown.some((p) => p.kind === "control");
    const several = shown.some((p) => p.low !== null);
    const left = points.length - shown.length + left_out;
    byId("front-caption").textContent =
      (several ? " · bars: 95 % intervals over seeds · of equal cost: side by side" : " · one seed: no intervals") + (left ? ` · ${left} models are not in the picture` : "");
  }
}

function said(point, x, y, count) {
  const [paid] = point.values[x.name];
  const [mean, low, high] = point.values[y.name];
  const interval = low === null ? [] : [`95 %: ${format(low, y.unit)} to ${format(high, y.unit)}`];
  const kind = point.kind === "control" ? ", a control" : "";
  const seeds = `${count} ${count === 1 ? "seed" : "seeds"}`;
  return [`${cut(point.name, 60)}${kind}`, `${y.label} ${format(mean, y.unit)}`, ...interval, `${x.label} ${format(paid, x.unit)}`, seeds];
}

function domain(shown, axis, limits, column) {
  const values = shown.flatMap((p) => [p[axis], p.left ?? p[axis], p.right ?? p[axis]]);
  values.push(...limits.filter((limit) => limit.column === column.name).map((limit) => limit.value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low * 0.9 || -1, high * 1.1 || 1] : [low, high];
}

function marksOf(shown, limits, x, y) {
  const of = (kind) => shown.filter((p) => p.kind === kind);
  const rules = (column) => limits.filter((limit) => limit.column === column.name).map((limit) => limit.value);
  const dot = { x: "x", y: "y", ariaLabel: (p) => p.said.join("; ") };
  const lines = d3.groups(of("strategy"), (p) => p.line).filter(([, members]) => members.length > 1);
  const bars = shown.filter((p) => p.low !== null);
  return [
    Plot.ruleY(of("original"), { y: "y", stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "4 4" }),
    Plot.ruleX(rules(x), { stroke: "var(--warn)", strokeDasharray: "2 3" }),
    Plot.ruleY(rules(y), { stroke: "var(--warn)", strokeDasharray: "2 3" }),
    Plot.text(rules(x), { x: (d) => d, text: () => "budget", frameAnchor: "top", dy: -10, fill: "var(--warn)" }),
    Plot.text(rules(y), { y: (d) => d, text: () => "budget", frameAnchor: "right", textAnchor: "end", dy: 9, fill: "var(--warn)" }),
    lines.map(([, members]) => Plot.line(members, { x: "x", y: "y", stroke: members[0].colour, strokeOpacity: 0.45, sort: "x" })),
    Plot.ruleX(bars, { x: "x", y1: "low", y2: "high", stroke: "colour", strokeWidth: 1.5, marker: "tick" }),
    Plot.ruleY(bars.filter((p) => p.left !== null && p.left !== p.right && x.unit === "seconds"), { y: "y", x1: "left", x2: "right", stroke: "colour", strokeWidth: 1.5, marker: "tick" }),
    Plot.dot(of("control"), { ...dot, r: 4.5, stroke: "colour", strokeWidth: 1.8, fill: "var(--page)" }),
    Plot.dot(of("strategy"), { ...dot, r: 5.5, fill: "colour", stroke: "var(--page)" }),
    Plot.dot(of("original"), { ...dot, r: 8, symbol: d3.symbolStar, fill: "currentColor", stroke: "var(--page)" }),
  ];
}

const tip = (points, width, title) => Plot.tip(points, Plot.pointer({
  x: "x", y: "y", title, fill: "var(--card)", stroke: "var(--quiet)", textPadding: 8, lineHeight: 1.4, lineWidth: Math.min(30, width / 18), maxRadius: 40,
}));

// Points of equal cost that would hide each other stand side by side. Their numbers stay what they are.
function sideBySide(shown, plot) {
  const [across, up] = [plot.scale("x"), plot.scale("y")];
  const place = new Map(shown.map((p) => [p, across.apply(p.x)]));
  const span = (p) => [up.apply(p.high ?? p.y) - 6, up.apply(p.low ?? p.y) + 6];
  const clusters = [];
  const joined = (points, order, near) => {
    const groups = [];
    for (const point of [...points].sort((a, b) => order(a) - order(b))) {
      if (groups.length && near(groups.at(-1), point)) groups.at(-1).push(point); else groups.push([point]);
    }
    return groups;
  };
  for (const column of joined(shown, (p) => place.get(p), ([first], p) => place.get(p) - place.get(first) < 6)) {
    clusters.push(...joined(column, (p) => span(p)[0], (group, p) => span(p)[0] < Math.max(...group.map((q) => span(q)[1]))));
  }
  for (const cluster of clusters) {
    const step = Math.min(12, 72 / cluster.length);
    cluster.sort((a, b) => shown.indexOf(a) - shown.indexOf(b));
    cluster.forEach((p, index) => { p.x = across.invert(place.get(p) + (index - (cluster.length - 1) / 2) * step); });
  }
}

// Names beside the points, where there is room: of strategies first; across intervals only if nothing else is free.
function labels(shown, plot, width) {
  const [across, up] = [plot.scale("x"), plot.scale("y")];
  const rank = { original: 0, strategy: 1, control: 2 };
  const taken = shown.map((p) => { const [x, y] = [across.apply(p.x), up.apply(p.y)]; return [x - 6, y - 6, x + 6, y + 6]; });
  const bars = shown.filter((p) => p.low !== null)
    .map((p) => { const x = across.apply(p.x); return [x - 3, up.apply(p.high) - 2, x + 3, up.apply(p.low) + 2]; });
  const free = (box, others) => others.every((b) => b[0] >= box[2] || b[2] <= box[0] || b[1] >= box[3] || b[3] <= box[1]);
  const inside = (box) => box[0] >= 44 && box[2] <= width - 2;
  return [...shown].sort((a, b) => rank[a.kind] - rank[b.kind]).flatMap((point) => {
    const control = point.kind === "control";
    const text = cut(point.name, 26);
    const ways = waysOf(across.apply(point.x), up.apply(point.y), (control ? 6.6 : 7.4) * text.length).filter(({ box }) => inside(box));
    const way = ways.find(({ box }) => free(box, [...taken, ...bars])) ?? ways.find(({ box }) => free(box, taken));
    if (!way) return [];
    taken.push(way.box);
    return [Plot.text([point], {
      x: "x", y: "y", text: () => text, ...way.offset, fill: control ? "var(--quiet)" : point.colour, fontWeight: control ? 400 : 600,
      stroke: "var(--page)", strokeWidth: 3, ariaHidden: "true",
    })];
  });
}

// Where a text of that width may stand beside a point, and the room it takes.
function waysOf(x, y, wide) {
  const beside = [["start", 10, 0], ["end", -10, 0], ["middle", 0, -15], ["middle", 0, 15], ["start", 8, -12], ["start", 8, 12], ["end", -8, -12], ["end", -8, 12]];
  return beside.map(([textAnchor, dx, dy]) => {
    const left = x + dx - (textAnchor === "end" ? wide : textAnchor === "middle" ? wide / 2 : 0);
    return { offset: { textAnchor, dx, dy }, box: [left, y + dy - 7, left + wide, y + dy + 7] };
  });
}

// Every point by keyboard: one stop, arrow keys from left to right. The tip is shown as for the pointer.
function reachable(svg, shown) {
  const dots = [...svg.querySelectorAll("[aria-label*=';']")].filter((dot) => dot.tagName === "circle" || dot.tagName === "path");
  const where = (dot) => { const box = dot.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; };
  const point = (kind, dot) => {
    const [clientX, clientY] = where(dot);
    svg.dispatchEvent(new PointerEvent(kind, { clientX, clientY, pointerType: "mouse", bubbles: true }));
  };
  dots.sort((a, b) => where(a)[0] - where(b)[0] || where(a)[1] - where(b)[1]);
  dots.forEach((dot, index) => {
    dot.setAttribute("role", "img");
    dot.setAttribute("tabindex", index ? "-1" : "0");
    dot.addEventListener("focus", () => { point("pointerenter", dot); point("pointermove", dot); byId("front-reading").textContent = dot.getAttribute("aria-label"); });
    dot.addEventListener("blur", () => { point("pointerleave", dot); byId("front-reading").textContent = ""; });
    dot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = step ? dots[index + step] : { Home: dots[0], End: dots.at(-1) }[event.key];
      if (!next) return;
      event.preventDefault();
      dot.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
}

function buildCurves(curves) {
  const place = byId("curves-drawing");
  const again = drawnIn(place, draw);
  const curve = choose(byId("curves-name"), curves, again);
  again();

  function draw(width) {
    const { label, x, y, about, lines } = curve();
    const groups = unique(lines.map((line) => line.group));
    const colour = colourOf(groups.length > 1 ? groups : unique(lines.map((line) => line.name)));
    const points = lines.flatMap(({ name, group, points }, z) =>
      points.map(([across, up]) => ({ z, name, few: points.length <= 30, x: across, y: up, colour: colour(groups.length > 1 ? group : name) })));
    const svg = Plot.plot({
      width, height: pixels(width), marginLeft: 58, marginBottom: 42, marginTop: 26, marginRight: 20,
      style: { fontSize: "12px", fontFamily: "inherit", overflow: "visible" }, color: { type: "identity" },
      x: { label: x, labelArrow: "none", labelAnchor: "center", tickFormat: (step) => short(step, 6) }, y: { label: y, labelArrow: "none", grid: true, tickFormat: tick("") },
      marks: [
        Plot.line(points, { x: "x", y: "y", z: "z", stroke: "colour", strokeWidth: 1.4, strokeOpacity: lines.length > 20 ? 0.5 : 0.85 }),
        Plot.dot(points.filter((p) => p.few), { x: "x", y: "y", fill: "colour", r: 3 }),
        Plot.dot(points, Plot.pointer({ x: "x", y: "y", fill: "colour", r: 4, maxRadius: 40 })),
        tip(points, width, (p) => `${cut(p.name, 60)}\n${cut(x, 30)} ${format(p.x)}\n${cut(y, 30)} ${format(p.y)}`),
      ],
    });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${label} of ${lines.length} models; results.json has the numbers`);
    place.replaceChildren(svg);
    const colours = groups.length > 1 && groups.length <= 12 ? groups : lines.length <= 12 ? lines.map((line) => line.name) : [];
    const caption = byId("curves-caption");
    caption.replaceChildren(make("span", `${about ? `${about}; ` : ""}a line for each model. `));
    colours.forEach((name) => {
      const key = make("span", undefined, { class: "key" });
      key.style.cssText = `background:${colour(name)};border-color:${colour(name)}`;
      caption.append(key, ` ${cut(name, 40)}`);
    });
  }
}

if (data.front) buildFront(data.front);
if (data.curves.length) {
  const fold = byId("curves");
  const begin = () => buildCurves(data.curves);
  if (fold.open) begin(); else fold.addEventListener("toggle", begin, { once: true });
}
if (data.tables.models) {
  const fold = byId("numbers");
  if (fold.open) buildNumbers(); else fold.addEventListener("toggle", buildNumbers, { once: true });
}
})();
