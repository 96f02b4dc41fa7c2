// The table of what is shown: sorted by any column, a page at a time; and the same rows as a CSV file.
const ROWS = 15;

function tableView(model, place) {
  const lead = [...model.columns.filter((column) => column.isText && column.role === "parameter"), ...idsOf(place.dataset.figures).map((id) => model.column(id)).filter(Boolean)];
  const columns = [...lead, ...model.columns.filter((column) => !lead.includes(column))];
  let [sorted, down, first] = [model.column(place.dataset.sort) || columns[0], false, 0];
  const head = make("tr");
  const body = make("tbody");
  const count = make("span", { class: "soft" });
  const turn = (step) => () => { first += step * ROWS; fill(); };
  const [back, on] = [make("button", { type: "button", onclick: turn(-1) }, "previous"), make("button", { type: "button", onclick: turn(1) }, "next")];
  const save = make("button", { type: "button", onclick: saveCsv }, "save these rows as CSV");
  const table = make("table", {}, make("thead", {}, head), body);
  place.append(make("div", { class: "scroll", tabindex: "0" }, table), make("div", { class: "controls" }, back, on, count, save));
  const headers = columns.map((column) => {
    const header = make("th", { class: column.isText ? "text" : "" }, make("button", { type: "button", class: "plain", onclick: () => sortBy(column) }, column.name));
    head.append(header);
    return header;
  });

  function sortBy(column) {
    down = column === sorted ? !down : column.better === "high";
    [sorted, first] = [column, 0];
    fill();
  }

  function rows() {
    const { values } = sorted;
    const rank = sorted.isText ? (i) => sorted.texts[values[i]] : (i) => values[i];
    return [...model.order].sort((a, b) => {
      const [x, y] = [rank(a), rank(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1) || a - b;
    });
  }

  function fill() {
    const all = rows();
    first = Math.max(0, Math.min(first, Math.floor(Math.max(0, all.length - 1) / ROWS) * ROWS));
    headers.forEach((header, at) => {
      if (columns[at] === sorted) header.setAttribute("aria-sort", down ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    body.replaceChildren(...all.slice(first, first + ROWS).map((i) => {
      const cells = columns.map((column) => make("td", { class: column.isText ? "text" : "" }, column.at(i)));
      const row = make("tr", { "data-point": i, class: model.front[i] ? "front" : "", onpointerenter: () => model.take(i), onpointerleave: () => model.take(-1) }, ...cells);
      return row;
    }));
    count.textContent = all.length ? `${(first + 1).toLocaleString("en-US")} to ${Math.min(first + ROWS, all.length).toLocaleString("en-US")} of ${all.length.toLocaleString("en-US")}` : "nothing is shown";
    back.disabled = first === 0;
    on.disabled = first + ROWS >= all.length;
  }

  function saveCsv() {
    const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const inert = (text) => (/^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? `'${text}` : text); // no formula
    const raw = (column, i) => (column.values[i] === null ? "" : column.isText ? inert(column.texts[column.values[i]]) : String(column.values[i]));
    const lines = [columns.map((column) => quoted(inert(column.id))), ...rows().map((i) => columns.map((column) => quoted(raw(column, i))))];
    const link = make("a", { href: URL.createObjectURL(new Blob([lines.map((line) => line.join(",")).join("\n") + "\n"], { type: "text/csv" })), download: "points.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  model.watch((what) => {
    if (what === "points") { first = 0; fill(); }
    else for (const row of body.children) row.classList.toggle("hand", Number(row.dataset.point) === model.hand);
  });
  fill();
}
