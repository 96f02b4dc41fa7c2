// Every data-explorer of the page gets a model of its data, and each data-view in it the view of that name.
const VIEWS = { filters: filtersView, status: statusView, scatter: scatterView, parallel: parallelView, multiples: multiplesView, table: tableView };

// On a telephone the filters would push everything else away.
if (matchMedia("(max-width: 760px)").matches) for (const part of document.querySelectorAll("details[data-fold]")) part.open = false;

for (const root of document.querySelectorAll("[data-explorer]")) {
  const model = new Model(JSON.parse(root.querySelector("script[type='application/json']").textContent));
  for (const place of root.querySelectorAll("[data-view]")) VIEWS[place.dataset.view](model, place);
}
