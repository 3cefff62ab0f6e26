// A table whose rows can be opened and, where its rows are differences, a forest plot of them. All text comes as data and is set as text, never as markup.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

function forest(data, open) {
  const figure = make("figure", "forest");
  figure.setAttribute("role", "img");
  figure.setAttribute("aria-label", data.alt);
  const { low, high, ticks } = data.scale;
  const at = (value) => `${(100 * (value - low)) / (high - low)}%`;
  for (const row of data.rows) {
    if (row.delta === null) continue;
    const line = make("div", `line ${row.kind}${row.chosen ? " chosen" : ""}${row.average ? " average" : ""}`);
    line.append(make("span", "name", row.cells[0]));
    const track = make("span", "track");
    const zero = make("span", "zero");
    zero.style.left = at(0);
    const bar = make("span", "bar");
    bar.style.left = at(row.low);
    bar.style.width = `${(100 * (row.high - row.low)) / (high - low)}%`;
    const point = make("span", "point", row.mark);
    point.style.left = at(row.delta);
    track.append(zero, bar, point);
    const value = make("span", "value");
    value.append(make("span", "", `${row.value} `), make("span", "interval", row.interval));
    line.append(track, value);
    line.title = row.hint;
    if (row.opens) {
      line.classList.add("opens");
      line.addEventListener("click", () => open(row.key));
    }
    figure.append(line);
  }
  const axis = make("div", "line axis");
  const scale = make("span", "track");
  for (const tick of ticks) {
    const label = make("span", "tick", tick.text);
    label.style.left = at(tick.value);
    scale.append(label);
  }
  axis.append(make("span", "name"), scale, make("span", "value"));
  figure.append(axis, make("figcaption", "", data.axis));
  return figure;
}

function table(data, open) {
  const box = make("div", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", data.name);
  const grid = make("table");
  grid.append(make("caption", "", data.name));
  const head = make("tr");
  for (const column of data.columns) {
    const cell = make("th", `${column.kind} ${column.wide ? "wide" : ""}`, column.title);
    cell.scope = "col";
    if (column.help) cell.title = column.help;
    head.append(cell);
  }
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  for (const row of data.rows) {
    const chosen = row.chosen;
    const line = make("tr", `${row.kind}${row.average ? " average" : ""}${chosen ? " chosen" : ""}`);
    line.dataset.key = row.key ?? "";
    if (chosen) line.setAttribute("aria-current", "true");
    row.cells.forEach((text, index) => {
      const column = data.columns[index];
      const cell = make(index ? "td" : "th", `${column.kind} ${column.wide ? "wide" : ""}`);
      if (index === 0) {
        cell.scope = "row";
        if (row.opens) {
          const button = make("button", "", text);
          button.type = "button";
          button.title = data.opens;
          cell.append(button);
        } else cell.textContent = text;
      } else cell.textContent = text;
      line.append(cell);
    });
    if (row.hint) line.title = row.hint;
    if (row.opens) {
      line.classList.add("opens");
      line.addEventListener("click", () => open(row.key));
    }
    body.append(line);
  }
  grid.append(top, body);
  box.append(grid);
  return box;
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".rows");
  const text = JSON.stringify(data);
  if (root.dataset.drawn === text) return;
  const first = root.dataset.drawn === undefined;
  root.dataset.drawn = text;
  for (const [name, colour] of Object.entries(data.colours)) root.style.setProperty(`--${name}`, colour);
  const active = root.getRootNode().activeElement;
  const focused = active && active.closest("tr") ? active.closest("tr").dataset.key : undefined;
  const open = (key) => setTriggerValue("picked", key);
  root.replaceChildren();
  if (data.rows.some((row) => row.delta !== null && row.delta !== undefined)) root.append(forest(data, open));
  root.append(table(data, open));
  const rows = [...root.querySelectorAll("tr[data-key]")];
  if (focused !== undefined) rows.find((row) => row.dataset.key === focused)?.querySelector("button")?.focus();
  if (first && data.bring) {
    const show = () => rows.find((row) => row.classList.contains("chosen"))?.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(show);
    setTimeout(show, 400);
  }
}
