// Search by path, distribution or module, with a list of results that is updated while typing.

const RESULTS = 60;

class Search {
  constructor(nodes, choose) {
    this.nodes = nodes;
    this.choose = choose;
    this.field = byId("search");
    this.list = byId("results");
    this.popup = this.list.parentElement;
    this.field.addEventListener("input", () => this.#update());
    this.field.addEventListener("focus", () => this.#update());
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    this.list.addEventListener("click", (event) => this.#pick(event.target.closest("[role=option]")));
    this.field.addEventListener("blur", () => this.#show([]));
  }

  // Exact matches first, then names that start with the text; distributions before folders before files; then by size.
  find(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const asPath = wanted.replaceAll(".", "/");
    this.folded ??= [...this.nodes.distributions.values(), ...this.nodes.folders.values(), ...this.nodes.leaves].map((node) => ({
      node,
      text: (node.path || node.name).toLowerCase(),
      name: node.name.toLowerCase(),
    }));
    const found = this.folded.filter(({ text: path }) => path.includes(wanted) || path.includes(asPath));
    const rank = ({ node, name, text: path }) => {
      const fits = name === wanted || path === asPath || path.startsWith(`${asPath}.`) ? 0 : name.startsWith(wanted) ? 1 : 2;
      return fits * 3 + { distribution: 0, folder: 1, file: 2 }[node.kind];
    };
    const ranked = found.map((each) => [rank(each), each.node.total("before"), each.node]);
    return ranked.sort((one, other) => one[0] - other[0] || other[1] - one[1]).map(([, , node]) => node);
  }

  #update() {
    const found = this.find(this.field.value);
    const files = found.filter((node) => node.file).length;
    const groups = found.length - files;
    const more = found.length > RESULTS ? `, the first ${RESULTS} shown` : "";
    const summary = `${count(files, "file", "files")}, ${count(groups, "distribution or folder", "distributions and folders")}${more}`;
    byId("found").textContent = found.length ? summary : "No match.";
    this.#show(found.slice(0, RESULTS));
  }

  #show(found) {
    const isOpen = this.field.value.trim() && document.activeElement === this.field;
    this.popup.hidden = !isOpen;
    this.field.setAttribute("aria-expanded", String(Boolean(isOpen && found.length)));
    this.field.removeAttribute("aria-activedescendant");
    this.options = found.map((node, index) =>
      make(
        "li",
        { role: "option", id: `result-${index}`, "aria-selected": "false" },
        node.file ? make("span", { class: `swatch ${node.file.verdict}` }) : make("span", { class: "kind" }, node.kind),
        make("bdi", { class: "name" }, shown(node.path || node.name)),
        make("span", { class: "sizes" }, size(node.total("before"))),
      ),
    );
    this.found = found;
    this.list.replaceChildren(...this.options);
    this.list.hidden = !found.length;
  }

  #pick(option) {
    const node = this.found[this.options.indexOf(option)];
    if (!node) return;
    this.#show([]);
    this.popup.hidden = true;
    this.choose(node);
  }

  #key(event) {
    const at = this.options?.findIndex((option) => option.getAttribute("aria-selected") === "true") ?? -1;
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1 };
    if (event.key in moves && this.options?.length) {
      this.#activate((moves[event.key] + this.options.length) % this.options.length);
      event.preventDefault();
    } else if (event.key === "Enter") {
      this.#pick(this.options?.[Math.max(at, 0)]);
    } else if (event.key === "Escape") {
      this.popup.hidden = true;
      this.field.setAttribute("aria-expanded", "false");
      event.stopPropagation();
    }
  }

  #activate(at) {
    this.options.forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
    this.field.setAttribute("aria-activedescendant", this.options[at].id);
    this.options[at].scrollIntoView({ block: "nearest" });
  }
}
