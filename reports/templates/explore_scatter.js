// Points over two axes of the reader's choice with the Pareto front of what is shown.
function scatterView(model, place) {
  const figures = model.columns.filter((column) => column.role !== "note");
  const named = figures.map((column) => [column.id, column.name]);
  const goals = model.columns.filter((column) => column.better).map((column) => [column.id, column.name]);
  let onlyFront = false;
  const controls = make("div", { class: "controls" });
  controls.append(
    choice("across", named, model.axes.x, (x) => model.choose({ axes: { x } })),
    choice("up", named, model.axes.y, (y) => model.choose({ axes: { y } })),
    choice("front also over", [["", "nothing else"], ...goals], model.axes.third || "", (third) => model.choose({ axes: { third } })),
    choice("colour", named, model.colour, (colour) => model.choose({ colour })),
    tick("only the front", false, (checked) => { onlyFront = checked; plot.redraw(); }),
  );
  const tip = make("div", { class: "tip", hidden: true });
  const legend = make("ul", { class: "legend" });
  const said = make("p", { class: "soft said", "aria-live": "polite" });
  place.append(controls);
  let spots = [];
  let pinned = false;

  const plot = new Plot(place, { height: (width) => (width < 560 ? 360 : 470), label: "scatter plot of the points shown", paint });
  plot.box.append(tip);
  plot.box.tabIndex = 0;
  plot.box.setAttribute("aria-label", "scatter plot; left and right arrow go along the front, Escape lets go");
  const over = make("p", { class: "soft over" });
  place.append(legend, over, said);

  function paint({ pen, svg, width, height, shade }) {
    const [left, right, top, bottom] = [width < 560 ? 48 : 62, 14, 12, 44];
    const [x, y] = [model.column(model.axes.x), model.column(model.axes.y)];
    const points = onlyFront ? model.order.filter((i) => model.front[i]) : model.order;
    const xs = new Scale(x, points, left, width - right, x.scale === "log", 0.04);
    const ys = new Scale(y, points, height - bottom, top, y.scale === "log", 0.04);
    for (const [at, text] of xs.ticks(width < 560 ? 4 : 7)) {
      draw(svg, "line", { class: "grid", x1: at, x2: at, y1: top, y2: height - bottom });
      draw(svg, "text", { x: at, y: height - bottom + 15, "text-anchor": "middle" }, text);
    }
    for (const [at, text] of ys.ticks(6)) {
      draw(svg, "line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at });
      draw(svg, "text", { x: left - 6, y: at + 4, "text-anchor": "end" }, text);
    }
    draw(svg, "text", { class: "name", x: width - right, y: height - 8, "text-anchor": "end" }, `${x.name} \u2192`);
    draw(svg, "text", { class: "name", x: 0, y: 0, "text-anchor": "end", transform: `translate(12 ${top}) rotate(-90)` }, `${y.name} \u2192`);
    const painter = model.painter();
    const inside = (i) => x.values[i] !== null && y.values[i] !== null;
    spots = points.filter(inside).map((i) => [i, xs.to(x.values[i]) + nudge(x, i, 1), ys.to(y.values[i]) + nudge(y, i, 2)]);
    const lone = model.nFront === model.order.length;
    for (const raised of [0, 1]) {
      for (const [i, px, py] of spots) {
        if (model.front[i] !== raised) continue;
        pen.globalAlpha = raised ? (lone ? 0.8 : 1) : 0.26;
        pen.fillStyle = painter.of(i);
        pen.beginPath();
        pen.arc(px, py, raised ? 4.5 : 3, 0, 7);
        pen.fill();
        if (raised) {
          pen.strokeStyle = shade("--card");
          pen.lineWidth = 1;
          pen.stroke();
        }
      }
    }
    if (x.better && y.better) stairs(pen, x, y, xs, ys, painter, shade);
    const held = spots.find(([i]) => i === model.hand);
    if (held) draw(svg, "circle", { class: "hand", cx: held[1], cy: held[2], r: 8 });
    showTip(held, width, height);
    legend.replaceChildren(...legendOf(painter));
    const names = model.goals().map((goal) => goal.label);
    const each = model.group && model.group.levels.length > 1 ? `, in each ${model.group.label}` : "";
    over.textContent = names.length ? `Front over ${names.join(", ")}${each}.` : "No front: choose an axis that has a better end.";
  }

  // The best that is reached over the two axes alone, as steps.
  function stairs(pen, x, y, xs, ys, painter, shade) {
    for (const points of model.groups().values()) {
      const front = frontOf(points, [x, y]).sort((a, b) => x.values[a] - x.values[b]);
      if (front.length < 2) continue;
      pen.globalAlpha = 0.75;
      pen.strokeStyle = model.group && model.colour === model.group.id ? painter.of(front[0]) : shade("--ink");
      pen.lineWidth = 1.5;
      pen.beginPath();
      front.forEach((i, k) => {
        const [px, py] = [xs.to(x.values[i]), ys.to(y.values[i])];
        if (k === 0) return pen.moveTo(px, py);
        const last = front[k - 1];
        // Between two points the one counts that is good enough across.
        if (x.better === "low") pen.lineTo(px, ys.to(y.values[last]));
        else pen.lineTo(xs.to(x.values[last]), py);
        pen.lineTo(px, py);
      });
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  function showTip(held, width, height) {
    tip.hidden = !held;
    if (!held) {
      said.textContent = "";
      return;
    }
    const [i, px, py] = held;
    const state = model.front[i] ? "on the front" : "beaten by another point";
    tip.replaceChildren(make("p", {}, state), ...tipRows(model, i));
    const room = tip.offsetWidth;
    tip.style.left = `${Math.max(4, Math.min(width - room - 4, px < width / 2 ? px + 14 : px - room - 14))}px`;
    // On a telephone it would cover all of the plot, so it stands below.
    tip.style.top = `${width < 560 ? height + 2 : Math.max(-120, Math.min(py - 30, height - tip.offsetHeight))}px`;
    const [x, y] = [model.column(model.axes.x), model.column(model.axes.y)];
    said.textContent = `${x.label} ${x.at(i)} ${x.unit || ""}, ${y.label} ${y.at(i)} ${y.unit || ""}: ${state}`;
  }

  function nearest(event) {
    const frame = plot.box.getBoundingClientRect();
    const [mx, my] = [event.clientX - frame.left, event.clientY - frame.top];
    let [found, least] = [-1, event.pointerType === "touch" ? 900 : 300];
    for (const [i, px, py] of spots) {
      const away = (px - mx) ** 2 + (py - my) ** 2 - (model.front[i] ? 12 : 0);
      if (away < least) [found, least] = [i, away];
    }
    return found;
  }

  plot.box.addEventListener("pointermove", (event) => { if (!pinned && event.pointerType !== "touch") model.take(nearest(event)); });
  plot.box.addEventListener("pointerleave", () => { if (!pinned) model.take(-1); });
  plot.box.addEventListener("click", (event) => {
    const found = nearest(event);
    pinned = found >= 0 && !(pinned && found === model.hand);
    model.take(found);
  });
  plot.box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") { pinned = false; model.take(-1); }
    if (!step) return;
    event.preventDefault();
    const line = spots.filter(([i]) => model.front[i]).sort((a, b) => a[1] - b[1]).map(([i]) => i);
    if (!line.length) return;
    pinned = true;
    const at = line.indexOf(model.hand);
    model.take(line[(at < 0 ? (step > 0 ? 0 : line.length - 1) : at + step + line.length) % line.length]);
  });
  model.watch(() => plot.redraw());
  plot.redraw();
}

// Points at one place of a scale with few places are spread a little, always in the same way.
function nudge(column, point, salt) {
  if (!column.levels) return 0;
  const mixed = Math.sin((point + 1) * 12.9898 * salt) * 43758.5453;
  return (mixed - Math.floor(mixed) - 0.5) * 16;
}
