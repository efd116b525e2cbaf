// The tree: the same hierarchy as text, for the keyboard and for screen readers. Only opened parts are built.

const CHUNK = 200;

class Tree {
  // choose(node) is called for Enter and clicks.
  constructor(list, choose) {
    this.list = list;
    this.choose = choose;
    this.opened = new Set();
    this.typed = "";
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("click", (event) => this.#click(event));
  }

  // Build the tree again, and keep opened nodes open.
  update(state) {
    this.state = state;
    const focused = this.list.contains(document.activeElement);
    const current = this.current;
    this.items = new Map();
    this.nodes = new WeakMap();
    this.list.replaceChildren(...this.#rows(state.root, 0, CHUNK));
    this.#stopAt(this.items.get(current) ?? this.list.firstElementChild, focused);
    this.select(state.selected, false);
  }

  // Mark a node; with reveal, open its parents and scroll to it.
  select(node, reveal = true) {
    this.list.querySelectorAll("[aria-selected=true]").forEach((item) => item.setAttribute("aria-selected", "false"));
    if (node && reveal) this.#reveal(node);
    const item = this.items.get(node);
    if (!item) return;
    item.setAttribute("aria-selected", "true");
    this.#stopAt(item, false);
  }

  #reveal(node) {
    for (const each of node.trail.slice(1)) {
      if (!this.items.has(each)) this.#until(each);
      if (each !== node) this.#open(this.items.get(each));
    }
    const item = this.items.get(node);
    if (!item) return;
    const row = item.firstElementChild.getBoundingClientRect();
    const frame = this.list.getBoundingClientRect();
    if (row.top < frame.top || row.bottom > frame.bottom) {
      this.list.scrollTop += row.top - frame.top - frame.height / 3;
    }
  }

  // Build the rows of a node's parent up to the node.
  #until(node) {
    const group = node.parent === this.state.root ? this.list : this.items.get(node.parent).querySelector("[role=group]");
    const rank = sortedChildren(node.parent, this.state).indexOf(node);
    const level = node.trail.length - 2;
    group.replaceChildren(...this.#rows(node.parent, level, Math.ceil((rank + 1) / CHUNK) * CHUNK));
  }

  #rows(parent, level, upTo) {
    const children = sortedChildren(parent, this.state);
    const rows = children.slice(0, upTo).map((node, rank) => this.#row(node, level + 1, rank + 1, children.length));
    if (children.length > upTo) rows.push(this.#more(parent, level, upTo, children.length));
    return rows;
  }

  #row(node, level, place, of) {
    const parts = [size(node.total("before")), size(node.total("after"))];
    const verdict = node.file?.verdict ?? "";
    const item = make(
      "li",
      {
        role: "treeitem",
        tabindex: -1,
        "aria-level": level,
        "aria-posinset": place,
        "aria-setsize": of,
        "aria-selected": "false",
        "aria-expanded": node.children ? "false" : null,
        "aria-label": `${shown(node.name)}, ${spoken(node)}, ${parts[0]} before, ${parts[1]} in the layer`,
      },
      make(
        "div",
        { class: "row" },
        make("span", { class: "twisty" }),
        verdict || node.kind === "own" ? make("span", { class: `swatch ${verdict || "own"}` }) : mixture(node, this.state),
        make("bdi", { class: "name" }, shown(node.name) + (node.kind === "folder" ? "/" : "")),
        make("span", { class: "sizes" }, size(valueOf(node, this.state))),
      ),
    );
    item.firstElementChild.style.setProperty("--level", level);
    this.items.set(node, item);
    this.nodes.set(item, node);
    if (node.children && this.opened.has(node)) this.#open(item);
    return item;
  }

  #more(parent, level, from, of) {
    const text = `Show ${number(Math.min(CHUNK, of - from))} more of ${number(of)}`;
    const item = make(
      "li",
      { role: "treeitem", tabindex: -1, "aria-level": level + 1, "aria-posinset": from + 1, "aria-setsize": of, "aria-selected": "false", "aria-label": text },
      make("div", { class: "row more" }, text),
    );
    item.firstElementChild.style.setProperty("--level", level + 1);
    item.grow = () => {
      const group = item.parentElement;
      const focused = item === document.activeElement;
      group.replaceChildren(...this.#rows(parent, level, from + CHUNK));
      this.#stopAt(group.children[from], focused);
    };
    return item;
  }

  #open(item) {
    const node = this.nodes.get(item);
    if (item.getAttribute("aria-expanded") !== "false") return;
    item.setAttribute("aria-expanded", "true");
    this.opened.add(node);
    item.append(make("ul", { role: "group" }, this.#rows(node, Number(item.getAttribute("aria-level")), CHUNK)));
  }

  #close(item) {
    if (item.getAttribute("aria-expanded") !== "true") return;
    item.setAttribute("aria-expanded", "false");
    const group = item.querySelector("[role=group]");
    for (const inner of group.querySelectorAll("[role=treeitem]")) this.items.delete(this.nodes.get(inner));
    this.opened.delete(this.nodes.get(item));
    group.remove();
  }

  // Only one item can be reached with the Tab key.
  #stopAt(item, focus) {
    this.list.querySelectorAll("[tabindex='0']").forEach((each) => (each.tabIndex = -1));
    if (!item) return;
    item.tabIndex = 0;
    this.current = this.nodes.get(item);
    if (focus) item.focus();
  }

  #click(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    this.#stopAt(item, true);
    if (item.grow) item.grow();
    else if (event.target.closest(".twisty") && item.hasAttribute("aria-expanded")) this.#toggle(item);
    else this.choose(this.nodes.get(item));
  }

  #toggle(item) {
    if (item.getAttribute("aria-expanded") === "true") this.#close(item);
    else this.#open(item);
  }

  #key(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const items = [...this.list.querySelectorAll("[role=treeitem]")];
    const at = items.indexOf(item);
    const actions = {
      ArrowDown: () => this.#stopAt(items[Math.min(at + 1, items.length - 1)], true),
      ArrowUp: () => this.#stopAt(items[Math.max(at - 1, 0)], true),
      Home: () => this.#stopAt(items[0], true),
      End: () => this.#stopAt(items.at(-1), true),
      ArrowRight: () => (item.getAttribute("aria-expanded") === "true" ? this.#stopAt(items[at + 1], true) : this.#open(item)),
      ArrowLeft: () => this.#outOf(item),
      Enter: () => (item.grow ? item.grow() : this.choose(this.nodes.get(item))),
      " ": () => (item.grow ? item.grow() : this.choose(this.nodes.get(item))),
    };
    const action = actions[event.key] ?? (event.key.length === 1 ? () => this.#find(event.key, items, at) : null);
    if (!action) return;
    event.preventDefault();
    action();
  }

  #outOf(item) {
    if (item.getAttribute("aria-expanded") === "true") this.#close(item);
    else this.#stopAt(item.parentElement.closest("[role=treeitem]") ?? item, true);
  }

  // Go to the next name that starts with the characters typed within half a second.
  #find(character, items, at) {
    clearTimeout(this.forget);
    this.forget = setTimeout(() => (this.typed = ""), 500);
    this.typed += character.toLowerCase();
    const from = this.typed.length > 1 ? at : at + 1;
    const order = [...items.slice(from), ...items.slice(0, from)];
    const found = order.find((item) => this.nodes.get(item)?.name.toLowerCase().startsWith(this.typed));
    if (found) this.#stopAt(found, true);
  }
}

function spoken(node) {
  if (node.file) return `file, ${node.file.verdict}`;
  if (node.kind === "own") return VERDICT_MEANS.own;
  return `${node.kind}, ${count(node.files, "file", "files")}`;
}

// A bar of the verdicts of a container's bytes.
function mixture(node, state) {
  const bar = make("span", { class: "mixture" });
  const whole = valueOf(node, state);
  for (const index of state.verdicts) {
    if (!node[state.view][index]) continue;
    const part = make("span", { class: VERDICTS[index] });
    part.style.flexGrow = node[state.view][index] / whole;
    bar.append(part);
  }
  return bar;
}
