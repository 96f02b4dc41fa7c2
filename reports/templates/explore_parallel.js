// Parallel coordinates: a line for each point through an axis for each column; drawing along an axis filters by it.
const MOST_HIDDEN = 800;

function parallelView(model, place) {
  const chosen = idsOf(place.dataset.figures);
  const columns = model.columns.filter((column) => varies(column) && !["note", "flag"].includes(column.role) && (column.role !== "figure" || !chosen.length || chosen.includes(column.id)));
  const hint = make("p", { class: "soft" }, "Draw along an axis to keep only a range of it; a tap on the axis lets go. Lines on the front are strong.");
  const legend = make("ul", { class: "legend" });
  const wide = make("div", { class: "scroll", tabindex: "0" });
  place.append(hint, wide, legend);
  const plot = new Plot(wide, { height: 400, label: "parallel coordinates of the points shown", paint });
  plot.box.style.minWidth = `${Math.max(columns.length * 84, 300)}px`;
  const [top, bottom] = [54, 24];
  let axes = [];
  let drawn = null;

  function paint({ pen, svg, width, height, shade }) {
    const side = 46;
    const everything = Array.from({ length: model.n }, (_, i) => i);
    axes = columns.map((column, at) => {
      const x = columns.length > 1 ? side + ((width - 2 * side) * at) / (columns.length - 1) : width / 2;
      return { column, x, scale: new Scale(column, everything, height - bottom, top) };
    });
    const painter = model.painter();
    const line = (i) => {
      pen.beginPath();
      let begun = false;
      for (const { column, x, scale } of axes) {
        const value = column.values[i];
        if (value === null) continue;
        const y = scale.to(value) + nudge(column, i, 3) * 0.6;
        if (begun) pen.lineTo(x, y);
        else pen.moveTo(x, y);
        begun = true;
      }
      pen.stroke();
    };
    pen.lineWidth = 1;
    pen.strokeStyle = shade("--soft");
    pen.globalAlpha = Math.max(0.01, Math.min(0.07, 25 / model.n));
    const hidden = everything.filter((i) => !model.shown[i]);
    const every = Math.ceil(hidden.length / MOST_HIDDEN);
    hidden.forEach((i, at) => { if (at % every === 0) line(i); });
    for (const raised of [0, 1]) {
      const many = raised ? model.nFront : model.order.length;
      pen.globalAlpha = raised ? Math.max(0.3, Math.min(0.9, 60 / many)) : Math.max(0.04, Math.min(0.35, 60 / many));
      pen.lineWidth = raised ? 1.4 : 1;
      for (const i of model.order) {
        if (model.front[i] !== raised) continue;
        pen.strokeStyle = painter.of(i);
        line(i);
      }
    }
    pen.globalAlpha = 1;
    if (model.hand >= 0) {
      pen.strokeStyle = shade("--ink");
      pen.lineWidth = 2.5;
      line(model.hand);
    }
    axes.forEach((axis, at) => drawAxis(svg, axis, at, height));
    legend.replaceChildren(...legendOf(painter));
  }

  function drawAxis(svg, { column, x, scale }, at, height) {
    draw(svg, "line", { class: "axis", x1: x, x2: x, y1: top, y2: height - bottom });
    const name = draw(svg, "text", { class: "name", x, y: at % 2 ? 34 : 16, "text-anchor": "middle" }, shortened(column.label));
    draw(name, "title", {}, column.name);
    if (column.unit) draw(svg, "text", { x, y: at % 2 ? 46 : 28, "text-anchor": "middle" }, column.unit);
    for (const [y, text] of scale.ticks(5)) {
      draw(svg, "text", { class: "halo", x: x + 5, y: y + 4 }, shortened(text));
      draw(svg, "line", { class: "axis", x1: x - 3, x2: x + 3, y1: y, y2: y });
    }
    const filter = model.filters.get(column.id);
    if (filter && filter.levels) {
      for (const level of filter.levels) draw(svg, "rect", { class: "brush", x: x - 7, y: scale.to(level) - 9, width: 14, height: 18 });
    } else if (filter) {
      const clamp = (y) => Math.max(top, Math.min(height - bottom, y));
      const [high, low] = [clamp(scale.to(filter.max)), clamp(scale.to(filter.min))];
      draw(svg, "rect", { class: "brush", x: x - 7, y: high, width: 14, height: Math.max(2, low - high) });
    }
    if (drawn && drawn.column === column) {
      draw(svg, "rect", { class: "brush", x: x - 7, y: Math.min(drawn.from, drawn.to), width: 14, height: Math.abs(drawn.from - drawn.to) });
    }
    const grip = draw(svg, "rect", { class: "grip", x: x - 20, y: top - 6, width: 40, height: height - top - bottom + 12, "data-column": column.id });
    grip.addEventListener("pointerdown", (event) => begin(event, column));
  }

  function begin(event, column) {
    event.preventDefault();
    const across = (e) => e.clientY - plot.box.getBoundingClientRect().top;
    drawn = { column, from: across(event), to: across(event) };
    const move = (e) => { drawn.to = across(e); plot.redraw(); };
    const stop = (e) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", stop);
      removeEventListener("pointercancel", stop);
      const { from, to } = drawn;
      drawn = null;
      if (e.type === "pointercancel") return plot.redraw();
      const { scale } = axes.find((axis) => axis.column === column);
      model.setFilter(column.id, Math.abs(from - to) < 4 ? null : brushed(column, scale, Math.min(from, to), Math.max(from, to)));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", stop);
    addEventListener("pointercancel", stop);
  }

  function brushed(column, scale, high, low) {
    if (!column.levels) return { min: scale.from(Math.min(low, scale.start)), max: scale.from(Math.max(high, scale.end)) };
    const levels = column.levels.filter((level) => scale.to(level) >= high - 8 && scale.to(level) <= low + 8);
    return levels.length ? { levels: new Set(levels) } : null;
  }

  model.watch(() => plot.redraw());
  plot.redraw();
}

function shortened(text) {
  return text.length > 15 ? `${text.slice(0, 13)}\u2026` : text;
}
