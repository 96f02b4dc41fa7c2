// The filters: chips for what has few values, a range with two handles for the rest; and the line that says what is shown.
const STEPS = 1000;

function filtersView(model, place) {
  const [main, others] = [make("div", { class: "filters" }), make("div", { class: "filters" })];
  const chosen = idsOf(place.dataset.figures);
  place.append(main);
  const refreshers = [];
  for (const column of model.columns) {
    if (column.role === "note" || !varies(column)) continue;
    const grid = column.role === "figure" && chosen.length && !chosen.includes(column.id) ? others : main;
    refreshers.push(column.levels ? chips(column, grid) : range(column, grid));
  }
  if (others.childElementCount) place.append(make("details", {}, make("summary", {}, "more figures"), others));
  model.watch((what) => { if (what === "points") refreshers.forEach((refresh) => refresh()); });
  refreshers.forEach((refresh) => refresh());

  function chips(column, grid) {
    const boxes = column.levels.map((level) => make("input", { type: "checkbox", "data-level": column.text(level), onchange: read }));
    const labels = boxes.map((box, at) => make("label", { class: "chip" }, box, make("span", {}, column.text(column.levels[at]))));
    const all = make("button", { type: "button", class: "plain", onclick: () => model.setFilter(column.id, boxes.every((box) => box.checked) ? { levels: new Set() } : null) }, "none");
    grid.append(make("fieldset", { "data-filter": column.id }, make("legend", {}, column.name, " ", all), make("div", { class: "chips" }, ...labels)));
    function read() {
      model.setFilter(column.id, { levels: new Set(column.levels.filter((_, at) => boxes[at].checked)) });
    }
    return () => {
      const filter = model.filters.get(column.id);
      boxes.forEach((box, at) => { box.checked = !filter || filter.levels.has(column.levels[at]); });
      all.textContent = filter ? "all" : "none";
    };
  }

  function range(column, grid) {
    const scale = new Scale(column, Array.from({ length: model.n }, (_, i) => i), 0, STEPS);
    const slider = (name) => make("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": `${name} ${column.name}`, oninput: read });
    const field = (name) => make("input", { type: "text", inputmode: "decimal", "aria-label": `${name} ${column.name}`, onchange: typed });
    const [low, high, from, to] = [slider("least"), slider("most"), field("least"), field("most")];
    const track = make("div", { class: "track" });
    grid.append(make("fieldset", { "data-filter": column.id },
      make("legend", {}, column.name),
      make("div", { class: "range" }, from, make("div", { class: "slide" }, track, low, high), to)));
    function apply(min, max) {
      const open = min <= column.min && max >= column.max;
      model.setFilter(column.id, open ? null : { min, max });
    }
    function read(event) {
      if (Number(low.value) > Number(high.value)) event.target.value = event.target === low ? high.value : low.value;
      apply(Number(low.value) <= 0 ? column.min : scale.from(Number(low.value)), Number(high.value) >= STEPS ? column.max : scale.from(Number(high.value)));
    }
    function typed() {
      const number = (input, otherwise) => {
        const value = Number(input.value.replaceAll(",", ""));
        return input.value.trim() === "" || Number.isNaN(value) ? otherwise : value;
      };
      apply(number(from, column.min), number(to, column.max));
      refresh();
    }
    function refresh() {
      const { min, max } = model.filters.get(column.id) || { min: column.min, max: column.max };
      const clamp = (place) => Math.max(0, Math.min(STEPS, Math.round(place)));
      [low.value, high.value] = [clamp(min > 0 || !scale.log ? scale.to(min) : 0), clamp(max > 0 || !scale.log ? scale.to(max) : 0)];
      if (document.activeElement !== from) from.value = numberText(Number(min.toPrecision(4)));
      if (document.activeElement !== to) to.value = numberText(Number(max.toPrecision(4)));
      track.style.left = `${low.value / STEPS * 100}%`;
      track.style.right = `${100 - high.value / STEPS * 100}%`;
    }
    return refresh;
  }
}

function statusView(model, place) {
  const count = make("span", { "aria-live": "polite", class: "count" });
  const marks = make("span", { class: "marks" });
  const reset = make("button", { type: "button", onclick: () => model.reset() }, "reset");
  const clear = make("button", { type: "button", onclick: () => model.clear() }, "show all");
  place.append(count, marks, clear, reset);
  model.watch((what) => { if (what === "points") tell(); });
  tell();

  function tell() {
    const n = (value) => value.toLocaleString("en-US");
    count.replaceChildren(make("b", { class: "shown" }, n(model.order.length)), ` of ${n(model.n)} points shown, `, make("b", {}, n(model.nFront)), " on the front");
    marks.replaceChildren(...[...model.filters].map(([id, filter]) => {
      const column = model.column(id);
      const text = filter.levels ? [...filter.levels].sort((a, b) => a - b).map((level) => column.text(level)).join(", ") || "none"
        : `${numberText(Number(filter.min.toPrecision(3)))} to ${numberText(Number(filter.max.toPrecision(3)))}`;
      return make("button", { type: "button", class: "mark", title: "let go of this filter", onclick: () => model.setFilter(id, null) }, `${column.label}: ${text} \u2715`);
    }));
    clear.disabled = model.filters.size === 0;
    reset.hidden = !Object.keys(model.data.filters || {}).length;
  }
}
