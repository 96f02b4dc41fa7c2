// Tables that a reader sorts by any column: a button in each header; cells say their number in data-value.
for (const table of document.querySelectorAll("table.sortable")) {
  const [body] = table.tBodies;
  const headers = [...table.tHead.rows[0].cells];
  const written = [...body.rows];
  const key = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const isNumber = headers.map((_, at) => written.some((row) => row.cells[at].dataset.value !== undefined));
  const collator = new Intl.Collator("en", { numeric: true });

  function sortBy(at) {
    const now = headers[at].getAttribute("aria-sort");
    const down = now ? now === "ascending" : isNumber[at];
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[at].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...written].sort((a, b) => {
      const [x, y] = [key(a, at), key(b, at)];
      if (x === "" || y === "" || typeof x !== typeof y) return (typeof x === "string") - (typeof y === "string") || (x === "") - (y === "");
      return (typeof x === "number" ? x - y : collator.compare(x, y)) * (down ? -1 : 1);
    });
    body.append(...rows);
  }

  headers.forEach((header, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(at));
    header.append(button);
  });
}
