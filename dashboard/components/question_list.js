// A list of questions with keys: arrows, j and k, Home and End. All text is set as text, never as markup.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const WAIT_MS = 160;

function build(root, state) {
  const { data } = state;
  root.replaceChildren();
  const bar = make("div", "bar");
  state.where = make("span", "where");
  for (const [label, key] of [["Previous", "k"], ["Next", "j"]]) {
    const button = make("button", "", label === "Next" ? "Next ›" : "‹ Previous");
    button.type = "button";
    button.title = `${label} question (key ${key} in the list)`;
    button.addEventListener("click", () => state.move(label === "Next" ? 1 : -1));
    bar.append(button);
    if (label === "Previous") bar.append(state.where);
  }
  const list = make("ul", "list");
  list.tabIndex = 0;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", data.name);
  data.items.forEach((item, offset) => {
    const option = make("li");
    option.id = `question-${data.first + offset}`;
    option.setAttribute("role", "option");
    const marks = make("span", `marks ${item.kind}`, item.marks);
    marks.setAttribute("aria-label", item.meaning);
    marks.setAttribute("role", "img");
    const text = make("span", "text");
    text.append(make("span", "question", item.title), make("span", "about", item.about));
    option.append(marks, text);
    option.addEventListener("click", () => {
      list.focus({ preventScroll: true });
      state.go(data.first + offset);
    });
    list.append(option);
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10, ArrowLeft: 0, ArrowRight: 0 };
    let step = steps[event.key];
    if (event.key === "Home") step = -state.data.total;
    if (event.key === "End") step = state.data.total;
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (step) state.move(step);
  });
  state.list = list;
  root.append(bar, list);
}

function show(state) {
  const { data, list } = state;
  [...list.children].forEach((option, offset) => {
    const chosen = data.first + offset === state.index;
    option.setAttribute("aria-selected", String(chosen));
    if (chosen) {
      list.setAttribute("aria-activedescendant", option.id);
      const above = option.offsetTop - list.offsetTop;
      if (above < list.scrollTop) list.scrollTop = above;
      if (above + option.offsetHeight > list.scrollTop + list.clientHeight)
        list.scrollTop = above + option.offsetHeight - list.clientHeight;
    }
  });
  state.where.textContent = `${(state.index + 1).toLocaleString("en")} of ${data.total.toLocaleString("en")}`;
  const [previous, next] = state.list.parentElement.querySelectorAll(".bar button");
  previous.disabled = state.index <= 0;
  next.disabled = state.index >= data.total - 1;
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".questions");
  for (const [name, colour] of Object.entries(data.colours)) root.style.setProperty(`--${name}`, colour);
  const state = (root.mergeboard ??= { index: -1, sent: null, timer: 0 });
  const same = state.data && state.data.of === data.of && state.data.first === data.first;
  state.data = data;
  // A quick reader is ahead of the server: an answer to an earlier key must not move the list back.
  if (state.data.of !== state.of || state.sent === null || state.sent === data.index) {
    state.index = data.index;
    state.sent = null;
  }
  state.of = data.of;
  state.send = (index) => setTriggerValue("picked", index);
  state.go = (index) => {
    state.index = index;
    state.sent = index;
    show(state);
    clearTimeout(state.timer);
    state.timer = setTimeout(() => state.send(index), WAIT_MS);
  };
  state.move = (step) => {
    const index = Math.min(Math.max(state.index + step, 0), state.data.total - 1);
    if (index !== state.index) state.go(index);
  };
  if (!same) {
    const focused = state.list && root.getRootNode().activeElement === state.list;
    build(root, state);
    if (focused) state.list.focus({ preventScroll: true });
  }
  show(state);
  return () => clearTimeout(state.timer);
}
