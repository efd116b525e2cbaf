// The page as a whole: its state, and the parts that show it. The document's data-state is the loading progress.

const DARK = matchMedia("(prefers-color-scheme: dark)");

class Page {
  constructor(report) {
    this.nodes = new Nodes(report);
    const { root } = this.nodes;
    this.state = { root, view: "before", verdicts: VERDICTS.map((_, index) => index), zoom: root, selected: root };
    byId("main").hidden = false;
    showSummary(report);
    showBudget(report, byId("budget"));
    this.treemap = new Treemap(byId("treemap"), byId("tip"), (node) => this.choose(node));
    this.tree = new Tree(byId("tree"), (node) => this.choose(node));
    this.search = new Search(this.nodes, (node) => this.go(node));
    this.#legend();
    this.#listen();
    this.#redraw();
    this.#follow();
    showTables(report, this.nodes, byId("tables"));
  }

  // Select a node: show its details, and zoom to a container.
  choose(node) {
    if (node.children) {
      this.state.zoom = node;
      this.treemap.update(this.state);
    }
    this.#selected(node);
  }

  // Select a node from elsewhere: show its verdict, in a view in which it has an area.
  go(node, view = null) {
    const { state } = this;
    const drawn = `${state.view} ${state.verdicts}`;
    if (view) state.view = view;
    if (node.file) state.verdicts = [...new Set([...state.verdicts, VERDICTS.indexOf(node.file.verdict)])].sort();
    if (!valueOf(node, state) && !view) state.view = node.total("before") ? "before" : "after";
    state.zoom = node.children ? node : state.root;
    state.selected = node;
    if (`${state.view} ${state.verdicts}` === drawn) this.treemap.update(state);
    else this.#redraw();
    for (const outer of node.file ? node.trail.slice(1, -1) : []) {
      if (this.treemap.shows(node) || !valueOf(outer, state)) break;
      state.zoom = outer;
      this.treemap.update(state);
    }
    this.#selected(node);
  }

  out() {
    const { zoom } = this.state;
    if (zoom.parent) this.choose(zoom.parent);
  }

  #selected(node) {
    this.state.selected = node;
    this.treemap.paint();
    this.tree.select(node, node !== this.state.root);
    this.#trail();
    showDetails(byId("details-body"), node, { nodes: this.nodes, view: this.state.view });
    const address = addressOf(node, this.state.view);
    if (address !== location.hash && node !== this.state.root) history.replaceState(null, "", address);
    else if (node === this.state.root && location.hash.includes("=")) history.replaceState(null, "", address);
  }

  // Update areas, tree and sums after a change of the view or the verdicts shown.
  #redraw() {
    const { state } = this;
    document.querySelector(`input[name=view][value=${state.view}]`).checked = true;
    for (const box of byId("legend").querySelectorAll("input")) box.checked = state.verdicts.includes(Number(box.value));
    for (const [index, sum] of byId("legend").querySelectorAll(".sum").entries()) sum.textContent = size(state.root[state.view][index]);
    this.treemap.update(state);
    this.tree.update(state);
    this.#trail();
    showDetails(byId("details-body"), state.selected, { nodes: this.nodes, view: state.view });
  }

  #trail() {
    const { zoom } = this.state;
    const steps = zoom.trail.map((node) =>
      make("li", null, make("button", { type: "button", "aria-current": node === zoom ? "true" : null, on: { click: () => this.choose(node) } }, make("bdi", null, shown(node.name)))),
    );
    byId("trail").replaceChildren(...steps, make("li", { class: "sum" }, size(valueOf(zoom, this.state))));
    const what = this.state.view === "before" ? "bytes as installed" : "bytes in the layer";
    byId("treemap").setAttribute("aria-label", `Treemap of ${shown(zoom.path || zoom.name)}: ${size(valueOf(zoom, this.state))}, areas are ${what}`);
  }

  #legend() {
    const boxes = VERDICTS.map((verdict, index) =>
      make(
        "label",
        { title: VERDICT_MEANS[verdict] },
        make("input", { type: "checkbox", value: index, checked: true, on: { change: () => this.#filter() } }),
        make("span", { class: `swatch ${verdict}` }),
        verdict === "own" ? "the layer's own" : verdict,
        make("span", { class: "sum" }),
      ),
    );
    byId("legend").append(...boxes);
  }

  #filter() {
    this.state.verdicts = [...byId("legend").querySelectorAll("input:checked")].map((box) => Number(box.value));
    this.#redraw();
  }

  // Select the node that the address names.
  #follow() {
    const { node, view } = addressed(location.hash, this.nodes);
    if (node) this.go(node, view);
    else if (view) {
      this.state.view = view;
      this.#redraw();
    }
  }

  #listen() {
    for (const radio of document.querySelectorAll("input[name=view]")) {
      radio.addEventListener("change", () => {
        this.state.view = radio.value;
        this.#redraw();
        this.#selected(this.state.selected);
      });
    }
    window.addEventListener("hashchange", () => this.#follow());
    document.addEventListener("click", (event) => this.#linked(event));
    document.addEventListener("keydown", (event) => {
      if (["Escape", "Backspace"].includes(event.key) && !event.target.closest?.("input[type=search]") && !event.defaultPrevented) {
        event.preventDefault();
        this.out();
      }
    });
    DARK.addEventListener("change", () => this.treemap.paint());
    new ResizeObserver(() => requestAnimationFrame(() => this.treemap.update(this.state))).observe(byId("treemap").parentElement);
  }

  // A link in the tables to a file scrolls up to the files, even if the address does not change.
  #linked(event) {
    const anchor = event.target.closest?.("a[href^='#path='], a[href^='#distribution=']");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { node, view } = addressed(anchor.getAttribute("href"), this.nodes);
    this.go(node, view);
    if (!byId("explorer").contains(anchor)) {
      byId("explorer").scrollIntoView();
      byId("explorer").focus({ preventScroll: true });
    }
  }
}

function say(state, text) {
  document.documentElement.dataset.state = state;
  byId("state").textContent = text;
  byId("state").hidden = !text;
}

async function start() {
  if (!globalThis.DecompressionStream) {
    say("failed", "This browser cannot decompress the report (no DecompressionStream): use a browser of 2023 or later.");
    return;
  }
  try {
    const page = new Page(await readReport());
    // For programs that take screenshots of the page.
    globalThis.layerReport = {
      rectangle: (path) => page.treemap.rectangle(page.nodes.byPath.get(path)),
      show: (path) => page.go(page.nodes.byPath.get(path)),
    };
    say("ready", "");
    performance.mark("ready");
  } catch (error) {
    say("failed", `The report cannot be shown: ${error}`);
    throw error;
  }
}

await start();
