"use strict";
document.documentElement.classList.add("js");
for (const board of document.querySelectorAll(".board")) {
  const table = board.querySelector("table.rows");
  const bodies = [...table.tBodies];
  const rows = bodies.filter((body) => !body.classList.contains("pinned"));
  const count = board.querySelector(".count");
  const heads = [...table.tHead.rows[0].cells];
  const find = board.querySelector("input");
  let group = "";
  const text = (body, at) => body.rows[0].cells[at].textContent.trim().toLowerCase();
  const number = (body, at) => {
    const value = body.rows[0].cells[at].dataset.v;
    return value === undefined ? null : Number(value);
  };
  const sort = (at, words, down) => {
    const keyed = rows.map((body, n) => [words ? text(body, at) : number(body, at), n, body]);
    keyed.sort((a, b) => {
      if (a[0] === b[0]) return a[1] - b[1];
      if (a[0] === null) return 1;
      if (b[0] === null) return -1;
      const order = words ? a[0].localeCompare(b[0], "en", { numeric: true }) : a[0] - b[0];
      return down ? -order : order;
    });
    table.append(...keyed.map((entry) => entry[2]));
    heads.forEach((head, n) => {
      if (n === at) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const at = Number(button.dataset.c);
      const words = button.dataset.t === "1";
      const now = heads[at].getAttribute("aria-sort");
      sort(at, words, now ? now === "ascending" : !words);
    });
  }
  const filter = () => {
    const wanted = find ? find.value.trim().toLowerCase() : "";
    let shown = 0;
    for (const body of rows) {
      const fits = (!group || body.dataset.g === group) && text(body, 0).includes(wanted);
      body.hidden = !fits;
      shown += fits;
    }
    count.textContent = wanted || group ? `${shown} of ${rows.length} shown` : "";
  };
  if (find) find.addEventListener("input", filter);
  const filters = [...board.querySelectorAll(".filter")];
  for (const button of filters) {
    button.addEventListener("click", () => {
      group = button.dataset.g;
      for (const other of filters) other.setAttribute("aria-pressed", String(other === button));
      filter();
    });
  }
  const set = (body, open) => {
    const button = body.querySelector(".open");
    if (!button) return;
    button.setAttribute("aria-expanded", String(open));
    body.classList.toggle("opened", open);
  };
  for (const body of rows) {
    const button = body.querySelector(".open");
    if (button) button.addEventListener("click", () => set(body, button.getAttribute("aria-expanded") !== "true"));
  }
  const spans = [...table.querySelectorAll("tr.detail > td")];
  const fit = () => {
    const shown = heads.filter((head) => getComputedStyle(head).display !== "none").length;
    for (const cell of spans) cell.colSpan = shown;
  };
  fit();
  matchMedia("screen and (max-width: 700px)").addEventListener("change", fit);
  addEventListener("beforeprint", () => spans.forEach((cell) => { cell.colSpan = heads.length; }));
  addEventListener("afterprint", fit);
  const all = board.querySelector(".all");
  if (all) {
    all.addEventListener("click", () => {
      const open = all.getAttribute("aria-pressed") !== "true";
      all.setAttribute("aria-pressed", String(open));
      for (const body of rows) set(body, open);
    });
  }
}
const folded = document.querySelectorAll("details");
addEventListener("beforeprint", () => folded.forEach((part) => { part.dataset.was = part.open; part.open = true; }));
addEventListener("afterprint", () => folded.forEach((part) => { part.open = part.dataset.was === "true"; }));
