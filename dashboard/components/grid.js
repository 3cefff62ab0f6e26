// A table of numbers as real HTML: header buttons sort on the server, ticks belong to row ids, rows open for details.
// Data are written as text nodes only. Arrow keys are left alone: they scroll.

const PATIENCE_MS = 6000;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

function plainClick(event) {
  return event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
}

function link(text, cell, open, attributes = {}) {
  const anchor = element("a", { href: cell.href, title: cell.title, ...attributes }, ...text);
  anchor.addEventListener("click", (event) => {
    if (!plainClick(event)) return;
    event.preventDefault();
    open();
  });
  return anchor;
}

function header(column, trigger) {
  const classes = [column.numeric ? "number" : "text", column.phone ? "" : "wide", `column-${column.kind}`];
  const th = element("th", { scope: "col", class: classes.join(" "), "aria-sort": column.sorted || "none" });
  const arrow = { ascending: "↑", descending: "↓" }[column.sorted] || "";
  const button = element(
    "button",
    { type: "button", title: column.help, "data-k": `sort ${column.key}` },
    column.label,
    element("span", { class: "arrow", "aria-hidden": "true" }, arrow),
  );
  button.addEventListener("click", () => trigger("sort", column.key));
  th.append(button);
  return th;
}

function cellOf(row, column, trigger) {
  const cell = row.cells[column.key];
  const classes = [column.numeric ? "number" : "text", column.phone ? "" : "wide", `column-${column.kind}`];
  if (!cell) return element("td", { class: classes.join(" ") });
  const parts = [element("span", { class: "score" }, cell.text)];
  if (cell.delta) {
    parts.push(" ", element("span", { class: `delta ${cell.meaning || ""}` }, cell.delta));
    if (cell.meaning) classes.push(`cell-${cell.meaning}`);
  }
  const td = element("td", { class: classes.join(" "), title: cell.title, "data-meaning": cell.meaning });
  if (cell.href) {
    td.append(link(parts, cell, () => trigger("open", [row.id, column.key]), { tabindex: "-1" }));
  } else {
    td.append(...parts);
  }
  return td;
}

function details(row, span, id, trigger) {
  const head = element("tr", {}, ...row.detail.head.map((text, i) => element("th", { scope: "col", class: i ? "number" : "text" }, text)));
  const body = row.detail.rows.map((line) =>
    element(
      "tr",
      {},
      ...line.texts.map((text, i) => {
        if (i) return element("td", { class: "number" }, text);
        const name = line.href ? link([text], line, () => trigger("open", [row.id, line.key])) : text;
        return element("th", { scope: "row", class: "text" }, name);
      }),
    ),
  );
  const inner = element("table", { class: "detail" }, element("thead", {}, head), element("tbody", {}, ...body));
  const notes = row.detail.notes.map((text) => element("p", {}, text));
  return element("tr", { class: "details", id }, element("td", { colspan: span }, inner, ...notes));
}

function sameSet(left, right) {
  return left.length === right.length && left.every((id) => right.includes(id));
}

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  const root = parentElement.querySelector(".grid");
  const state = (root.mergeboard ||= { open: new Set(), pending: null, at: 0, drawn: "" });
  const trigger = (name, value) => setTriggerValue(name, value);
  for (const [name, value] of Object.entries(data.colours)) root.style.setProperty(`--${name}`, value);

  // The server's ticks can be older than the last click: keep the user's until it agrees.
  const settled = state.pending === null || sameSet(state.pending, data.ticks) || Date.now() - state.at > PATIENCE_MS;
  if (settled) state.pending = null;
  const ticks = new Set(state.pending || data.ticks);
  const drawn = JSON.stringify([data, [...ticks]]);
  if (drawn === state.drawn) return;
  state.drawn = drawn;

  function tick(id, on) {
    const now = new Set(state.pending || data.ticks);
    if (on) now.add(id);
    else now.delete(id);
    state.pending = [...now].sort((a, b) => a - b);
    state.at = Date.now();
    state.drawn = "";
    setStateValue("ticks", state.pending);
  }

  const span = data.columns.length + 2;
  const head = element(
    "tr",
    {},
    element("td", { class: "tool" }),
    element("td", { class: "tool" }),
    ...data.columns.map((column) => header(column, trigger)),
  );
  const body = element("tbody");
  for (const row of data.rows) {
    const id = `details-${row.id}`;
    const box = element("input", { type: "checkbox", "aria-label": `Tick ${row.name}`, "data-k": `tick ${row.id}` });
    box.checked = ticks.has(row.id);
    box.addEventListener("change", () => tick(row.id, box.checked));
    const more = element(
      "button",
      { type: "button", class: "more", "aria-label": `Details of ${row.name}`, title: "Details", "data-k": `more ${row.id}` },
      element("span", { "aria-hidden": "true" }, "›"),
    );
    const name = element("th", { scope: "row", class: "text name column-name" });
    if (row.mark) name.append(element("span", { class: "mark", title: row.mark_title }, row.mark), " ");
    name.append(row.href ? link([row.name], row, () => trigger("open", [row.id, ""]), { "data-k": `name ${row.id}` }) : row.name);
    const tr = element(
      "tr",
      { class: row.kind, "data-id": row.id },
      element("td", { class: "tool" }, box),
      element("td", { class: "tool" }, row.detail ? more : null),
      name,
      ...data.columns.slice(1).map((column) => cellOf(row, column, trigger)),
    );
    body.append(tr);
    if (!row.detail) continue;
    // Made when they are opened first: those of all rows are two thirds of the page's elements.
    let inside = null;
    const show = () => {
      const open = state.open.has(row.id);
      if (open && inside === null) {
        inside = details(row, span, id, trigger);
        tr.after(inside);
        more.setAttribute("aria-controls", id);
      }
      if (inside !== null) inside.hidden = !open;
      more.setAttribute("aria-expanded", String(open));
    };
    more.addEventListener("click", () => {
      if (!state.open.delete(row.id)) state.open.add(row.id);
      show();
    });
    show();
  }
  const table = element("table", { class: "board" }, element("caption", {}, data.caption), element("thead", {}, head), body);
  const scroller = element("div", { class: "scroller", role: "region", tabindex: "0", "aria-label": data.caption }, table);

  const focused = parentElement.activeElement?.dataset?.k;
  const left = root.firstElementChild?.scrollLeft || 0;
  root.replaceChildren(scroller);
  scroller.scrollLeft = left;
  if (focused) root.querySelector(`[data-k="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
