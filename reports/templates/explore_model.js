// The points of a page, what is shown of them, and small helpers that every view uses. No library, nothing fetched.
const SVG = "http://www.w3.org/2000/svg";
const PALETTE = ["#3b6fd4", "#e08a1e", "#2a9d8f", "#b0559e", "#c2453d", "#7d4bb3", "#4f9a4a", "#4aa3c7", "#b89b12", "#8a94a6"];
const RAMP = ["#3b3f9e", "#2a72b5", "#1f9e89", "#6cbf4a", "#e6b422"];
const MOST_LEVELS = 12;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function draw(parent, tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

function choice(label, options, chosen, change) {
  const select = make("select", { "aria-label": label, onchange: () => change(select.value) });
  for (const [value, text] of options) select.append(make("option", { value, selected: value === chosen }, text));
  return make("label", { class: "choice" }, make("span", {}, label), select);
}

function tick(label, checked, change) {
  const box = make("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return make("label", { class: "tick" }, box, make("span", {}, label));
}

function numberText(value) {
  if (value === null || Number.isNaN(value)) return "";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2);
  return value.toLocaleString("en-US", { maximumSignificantDigits: size >= 1000 ? 6 : 4 });
}

// One column: values as numbers (texts as the number of their text), its levels where it has few.
class Column {
  constructor(given) {
    Object.assign(this, given);
    this.isText = given.kind === "text";
    if (this.isText) {
      this.values = given.codes;
      this.levels = given.texts.map((_, at) => at);
    } else {
      const seen = new Set();
      this.min = Infinity;
      this.max = -Infinity;
      for (const value of this.values) {
        if (value === null) continue;
        if (seen.size <= MOST_LEVELS) seen.add(value);
        this.min = Math.min(this.min, value);
        this.max = Math.max(this.max, value);
      }
      const few = given.role === "parameter" && seen.size <= MOST_LEVELS;
      this.levels = few ? [...seen].sort((a, b) => a - b) : null;
    }
    this.name = given.unit ? `${given.label}, ${given.unit}` : given.label;
    this.places = this.levels ? new Map(this.levels.map((level, at) => [level, at])) : null;
  }

  text(value) {
    if (value === null) return "";
    return this.isText ? this.texts[value] : numberText(value);
  }

  at(point) {
    return this.text(this.values[point]);
  }
}

// What all views share: columns, filters, which points are shown, the front over them, the point in hand.
class Model {
  constructor(data) {
    this.data = data;
    this.n = data.n;
    this.columns = data.columns.map((column) => new Column(column));
    this.byId = new Map(this.columns.map((column) => [column.id, column]));
    this.group = data.group ? this.byId.get(data.group) : null;
    this.shown = new Uint8Array(this.n);
    this.front = new Uint8Array(this.n);
    this.axes = { ...data.axes };
    this.colour = data.colour;
    this.hand = -1;
    this.watchers = [];
    this.filters = new Map();
    this.reset(false);
    this.update();
  }

  column(id) {
    return this.byId.get(id);
  }

  watch(watcher) {
    this.watchers.push(watcher);
  }

  reset(tell = true) {
    this.filters.clear();
    for (const [id, texts] of Object.entries(this.data.filters || {})) {
      const column = this.column(id);
      const codes = texts.map((text) => column.texts.indexOf(text)).filter((code) => code >= 0);
      if (codes.length) this.filters.set(id, { levels: new Set(codes) });
    }
    if (tell) this.update();
  }

  clear() {
    this.filters.clear();
    this.update();
  }

  setFilter(id, filter) {
    const column = this.column(id);
    const all = filter && filter.levels && filter.levels.size === column.levels.length;
    if (!filter || all) this.filters.delete(id);
    else this.filters.set(id, filter);
    this.update();
  }

  choose(changes) {
    if (changes.axes) Object.assign(this.axes, changes.axes);
    if (changes.colour) this.colour = changes.colour;
    this.update();
  }

  take(point) {
    if (point === this.hand) return;
    this.hand = point;
    this.tell("hand");
  }

  update() {
    this.shown.fill(1);
    for (const [id, filter] of this.filters) {
      const values = this.column(id).values;
      for (let i = 0; i < this.n; i++) {
        const value = values[i];
        const fits = filter.levels ? filter.levels.has(value) : value !== null && value >= filter.min && value <= filter.max;
        if (!fits) this.shown[i] = 0;
      }
    }
    this.order = [];
    for (let i = 0; i < this.n; i++) if (this.shown[i]) this.order.push(i);
    this.findFront();
    if (this.hand >= 0 && !this.shown[this.hand]) this.hand = -1;
    this.tell("points");
  }

  tell(what) {
    for (const watcher of this.watchers) watcher(what);
  }

  goals() {
    const ids = [...new Set([this.axes.x, this.axes.y, this.axes.third])];
    return ids.map((id) => this.byId.get(id)).filter((column) => column && column.better);
  }

  groups() {
    const groups = new Map();
    for (const i of this.order) {
      const key = this.group ? this.group.values[i] : 0;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i);
    }
    return groups;
  }

  findFront() {
    this.front.fill(0);
    const goals = this.goals();
    this.nFront = 0;
    if (!goals.length) return;
    for (const points of this.groups().values()) {
      for (const i of frontOf(points, goals)) {
        this.front[i] = 1;
        this.nFront++;
      }
    }
  }

  painter() {
    const column = this.byId.get(this.colour);
    if (!column) return { of: () => PALETTE[0], legend: [], name: "" };
    if (column.levels && (column.isText || column.levels.length <= 6)) {
      const shades = column.isText ? PALETTE : spread(column.levels.length);
      const of = (i) => shades[column.places.get(column.values[i]) % shades.length];
      return { of, legend: column.levels.map((level, at) => [column.text(level), shades[at % shades.length]]), name: column.isText ? "" : column.name };
    }
    const scale = new Scale(column, this.order, 0, 1);
    const of = (i) => ramp(scale.to(column.values[i]));
    const ends = [0, 0.5, 1].map((share) => [numberText(Number(scale.from(share).toPrecision(3))), ramp(share)]);
    return { of, legend: ends, name: column.name };
  }
}

// Points that no other point of the list beats in every goal; equal points stay together.
function frontOf(points, goals) {
  const cost = (i) => goals.map((goal) => (goal.better === "high" ? -goal.values[i] : goal.values[i]));
  const known = points.filter((i) => goals.every((goal) => goal.values[i] !== null));
  const sorted = known.map((i) => [i, cost(i)]).sort((a, b) => compare(a[1], b[1]));
  const front = [];
  for (const [i, mine] of sorted) {
    const beaten = front.some(([, other]) => other.every((value, k) => value <= mine[k]) && other.some((value, k) => value < mine[k]));
    if (!beaten) front.push([i, mine]);
  }
  return front.map(([i]) => i);
}

function compare(a, b) {
  for (let k = 0; k < a.length; k++) if (a[k] !== b[k]) return a[k] - b[k];
  return 0;
}

function ramp(share) {
  const place = Math.max(0, Math.min(1, share)) * (RAMP.length - 1);
  const at = Math.min(RAMP.length - 2, Math.floor(place));
  const part = place - at;
  const pieces = [1, 3, 5].map((k) => {
    const [low, high] = [RAMP[at], RAMP[at + 1]].map((text) => parseInt(text.slice(k, k + 2), 16));
    return Math.round(low + (high - low) * part);
  });
  return `rgb(${pieces.join(",")})`;
}

function spread(n) {
  return Array.from({ length: n }, (_, at) => ramp(n > 1 ? at / (n - 1) : 0.5));
}

// From a column's values to pixels and back: logarithmic, linear, or one place for each level.
class Scale {
  constructor(column, points, start, end, log = column.scale === "log", pad = 0) {
    this.column = column;
    this.start = start;
    this.end = end;
    this.byLevel = Boolean(column.levels);
    if (this.byLevel) return;
    let low = Infinity;
    let high = -Infinity;
    for (const i of points) {
      const value = column.values[i];
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (low > high) [low, high] = [column.min, column.max];
    this.log = log && low > 0;
    const bend = this.log ? Math.log10 : (v) => v;
    let [a, b] = [bend(low), bend(high)];
    if (!(b > a)) {
      const room = this.log ? 0.05 : Math.abs(a) * 0.05 || 1;
      [a, b] = [a - room, b + room];
    }
    this.low = a - (b - a) * pad;
    this.high = b + (b - a) * pad;
    this.bend = bend;
  }

  to(value) {
    if (value === null) return NaN;
    if (this.byLevel) {
      const n = this.column.levels.length;
      return this.start + (this.end - this.start) * ((this.column.places.get(value) + 0.5) / n);
    }
    return this.start + (this.end - this.start) * ((this.bend(value) - this.low) / (this.high - this.low));
  }

  from(place) {
    const share = (place - this.start) / (this.end - this.start);
    const bent = this.low + share * (this.high - this.low);
    return this.log ? 10 ** bent : bent;
  }

  ticks(wanted = 6) {
    if (this.byLevel) return this.column.levels.map((level) => [this.to(level), this.column.text(level)]);
    const found = this.log ? logTicks(10 ** this.low, 10 ** this.high, wanted) : linearTicks(this.low, this.high, wanted);
    return found.map((value) => [this.to(value), numberText(value)]);
  }
}

function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((size) => size >= raw * 0.7);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return linearTicks(low, high, wanted);
  const steps = decades > wanted / 1.5 ? [1] : decades > wanted / 3.2 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(3));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

// A canvas with an SVG layer above it, both redrawn (once a frame) when something changes.
class Plot {
  constructor(parent, { height, label, paint }) {
    this.box = make("div", { class: "plot" });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.svg = draw(this.box, "svg", { role: "img", "aria-label": label });
    this.box.prepend(this.canvas);
    this.height = height;
    this.paint = paint;
    parent.append(this.box);
    new ResizeObserver(() => this.redraw()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const width = this.box.clientWidth;
      if (!width) return;
      const height = typeof this.height === "function" ? this.height(width) : this.height;
      const dots = window.devicePixelRatio || 1;
      this.canvas.width = Math.round(width * dots);
      this.canvas.height = Math.round(height * dots);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      const pen = this.canvas.getContext("2d");
      pen.scale(dots, dots);
      this.svg.setAttribute("width", width);
      this.svg.setAttribute("height", height);
      this.svg.replaceChildren();
      const look = getComputedStyle(this.box);
      const shade = (name) => look.getPropertyValue(name).trim();
      this.paint({ pen, svg: this.svg, width, height, shade });
    });
  }
}

// Whether there is anything to choose or to draw in a column.
function varies(column) {
  return column.levels ? column.levels.length > 1 : column.max > column.min;
}

function idsOf(text) {
  return (text || "").split(" ").filter(Boolean);
}

function legendOf(painter) {
  const entries = painter.legend.map(([text, colour]) => {
    const mark = make("i");
    mark.style.background = colour;
    return make("li", {}, mark, text);
  });
  return [...(painter.name ? [make("li", {}, `${painter.name}:`)] : []), ...entries];
}

// The values of a point, for a tip: what was chosen, and what came out.
function tipRows(model, point) {
  const row = (column) => {
    const unit = column.unit ? ` ${column.unit}` : "";
    return make("div", {}, make("span", {}, column.label), make("b", {}, column.at(point) + unit));
  };
  const of = (...roles) => model.columns.filter((column) => roles.includes(column.role) && column.at(point) !== "").map(row);
  return [make("section", {}, ...of("parameter", "note")), make("section", {}, ...of("figure", "flag"))];
}
