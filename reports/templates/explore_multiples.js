// Small multiples: each figure over each parameter, with the best of every value as a line.
function multiplesView(model, place) {
  const figures = idsOf(place.dataset.figures).map((id) => model.column(id)).filter(Boolean);
  const parameters = model.columns.filter((column) => column.role === "parameter" && column !== model.group && varies(column));
  const grid = make("div", { class: "multiples" });
  grid.style.gridTemplateColumns = `repeat(${parameters.length}, minmax(128px, 1fr))`;
  place.append(make("div", { class: "scroll", tabindex: "0" }, grid));
  const plots = [];
  for (const figure of figures) {
    parameters.forEach((parameter, at) => {
      const cell = make("div", { class: "multiple" });
      if (figure === figures[0]) cell.append(make("h3", { title: parameter.name }, parameter.name));
      grid.append(cell);
      plots.push(new Plot(cell, {
        height: 132,
        label: `${figure.label} by ${parameter.label}`,
        paint: (area) => paint(area, figure, parameter, at === 0),
      }));
    });
  }

  function paint({ pen, svg, width, height, shade }, figure, parameter, isFirst) {
    const [left, right, top, bottom] = [34, 6, isFirst ? 16 : 16, 20];
    const xs = new Scale(parameter, model.order, left, width - right, parameter.scale === "log", 0.03);
    const ys = new Scale(figure, model.order, height - bottom, top, figure.scale === "log", 0.06);
    draw(svg, "line", { class: "grid", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom });
    for (const [y, text] of ys.ticks(3)) {
      draw(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y });
      draw(svg, "text", { x: left - 4, y: y + 4, "text-anchor": "end" }, text);
    }
    if (isFirst) draw(svg, "text", { class: "name", x: 0, y: 10 }, figure.name);
    const ticks = xs.ticks(3);
    const letters = Math.max(4, ...ticks.map(([, text]) => shortened(text).length));
    const most = Math.max(1, Math.floor((width - left - right) / (letters * 5.6 + 6)));
    const every = Math.ceil(ticks.length / most);
    ticks.forEach(([x, text], at) => {
      if (at % every === 0) draw(svg, "text", { x, y: height - 6, "text-anchor": "middle" }, shortened(text));
    });
    const painter = model.painter();
    const room = parameter.levels ? Math.min(1.2, (width - left - right) / parameter.levels.length / 26) : 0;
    for (const raised of [0, 1]) {
      pen.globalAlpha = raised ? 0.85 : Math.max(0.1, Math.min(0.35, 120 / model.order.length));
      for (const i of model.order) {
        if (model.front[i] !== raised || parameter.values[i] === null || figure.values[i] === null) continue;
        pen.fillStyle = painter.of(i);
        pen.fillRect(xs.to(parameter.values[i]) + nudge(parameter, i, 1) * room - 1.2, ys.to(figure.values[i]) - 1.2, 2.4, 2.4);
      }
    }
    pen.globalAlpha = 1;
    if (!parameter.levels || parameter.isText) return;
    for (const points of model.groups().values()) best(pen, points, figure, parameter, xs, ys, painter, shade);
  }

  function best(pen, points, figure, parameter, xs, ys, painter, shade) {
    const found = new Map();
    const isBetter = figure.better === "high" ? (a, b) => a > b : (a, b) => a < b;
    for (const i of points) {
      const [at, value] = [parameter.values[i], figure.values[i]];
      if (at !== null && value !== null && (!found.has(at) || isBetter(value, found.get(at)))) found.set(at, value);
    }
    pen.strokeStyle = model.group && model.colour === model.group.id ? painter.of(points[0]) : shade("--ink");
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const level of parameter.levels) if (found.has(level)) pen.lineTo(xs.to(level), ys.to(found.get(level)));
    pen.stroke();
  }

  model.watch((what) => { if (what === "points") for (const plot of plots) plot.redraw(); });
  for (const plot of plots) plot.redraw();
}
