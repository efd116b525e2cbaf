// The hierarchy shown by treemap and tree: environment, distribution, folder, file; with indices for lookups.
//
// A node has name, kind ("root", "distribution", "folder", "file" or "own"), parent and children. before and after
// have its bytes by verdict, so that a filter needs no traversal; a file also has its row of the report's JSON.

class Node {
  constructor(name, kind, parent, file = null) {
    this.name = name;
    this.kind = kind;
    this.parent = parent;
    this.file = file;
    this.children = null;
    this.files = 0;
    this.before = new Float64Array(VERDICTS.length);
    this.after = new Float64Array(VERDICTS.length);
    if (parent) (parent.children ??= []).push(this);
  }

  // The path in site-packages; empty for nodes above folders.
  get path() {
    if (this.file) return this.file.path;
    return this.kind === "folder" ? (this.parent.path ? `${this.parent.path}/${this.name}` : this.name) : "";
  }

  get distribution() {
    let node = this;
    while (node && node.kind !== "distribution") node = node.parent;
    return node;
  }

  // From the root to this node.
  get trail() {
    return this.parent ? [...this.parent.trail, this] : [this];
  }

  total(view) {
    return this[view].reduce((sum, bytes) => sum + bytes, 0);
  }

  // The verdict of most of its bytes.
  verdict(view, verdicts) {
    let most = -1;
    for (const index of verdicts) if (most < 0 || this[view][index] > this[view][most]) most = index;
    return VERDICTS[most] ?? "dropped";
  }
}

// The bytes of a node in a state: its view, and the indices of the verdicts shown.
function valueOf(node, { view, verdicts }) {
  let sum = 0;
  for (const index of verdicts) sum += node[view][index];
  return sum;
}

function sortedChildren(node, state) {
  const valued = (node.children ?? []).map((child) => [child, valueOf(child, state)]);
  valued.sort(([one, a], [two, b]) => b - a || (one.name < two.name ? -1 : 1));
  return valued.map(([child]) => child);
}

class Nodes {
  constructor(report) {
    this.report = report;
    this.root = new Node("Environment", "root", null);
    this.distributions = new Map();
    this.byPath = new Map();
    this.leaves = [];
    this.folders = new Map();
    for (const file of report.files) this.#add(file);
    this.#addOwn();
    this.imports = new Map(report.imports.map((row) => [row.module, row]));
    this.libraries = new Map((report.libraries ?? []).map((row) => [row.path, row]));
    this.standIns = new Map((report.stand_ins ?? []).map((row) => [row.module, row]));
    this.repaired = new Set(report.verification?.repaired ?? []);
  }

  #add(file) {
    const label = file.distribution || NO_DISTRIBUTION;
    let distribution = this.distributions.get(label);
    if (!distribution) {
      distribution = new Node(label, "distribution", this.root);
      this.distributions.set(label, distribution);
    }
    const at = file.path.lastIndexOf("/");
    const folder = at < 0 ? distribution : this.#folder(distribution, file.path.slice(0, at));
    const node = new Node(file.path.slice(at + 1), "file", folder, file);
    this.leaves.push(node);
    // For a path that is installed twice, the file that Python finds comes first; shadowed files come last.
    if (!this.byPath.has(file.path)) this.byPath.set(file.path, node);
    this.#count(node, VERDICTS.indexOf(file.verdict), file.bytes, file.shipped);
  }

  #count(node, verdict, before, after) {
    for (let each = node; each; each = each.parent) {
      if (node.file) each.files += 1;
      each.before[verdict] += before;
      each.after[verdict] += after;
    }
  }

  #folder(distribution, path) {
    const key = `${distribution.name}\0${path}`;
    let node = this.folders.get(key);
    if (!node) {
      const at = path.lastIndexOf("/");
      const parent = at < 0 ? distribution : this.#folder(distribution, path.slice(0, at));
      node = new Node(path.slice(at + 1), "folder", parent);
      this.folders.set(key, node);
    }
    return node;
  }

  // The rest of the layer's size: its runtime, its tables, and libraries bundled from the machine that made it.
  #addOwn() {
    const all = (this.report.layer?.unzipped_bytes ?? 0) - this.root.total("after");
    if (all <= 0) return;
    const own = new Node(OWN, "own", this.root);
    const parts = (this.report.bundled ?? []).map((library) => [`lib/${library.name}`, library.bytes]);
    const rest = all - parts.reduce((sum, [, bytes]) => sum + bytes, 0);
    for (const [name, bytes] of rest >= 0 ? [...parts, ["runtime and tables", rest]] : [["all files", all]]) {
      this.#count(new Node(name, "own", own), VERDICTS.indexOf("own"), 0, bytes);
    }
    this.own = own;
  }

  // The steps from a file to the entry, as in --explain: sentences, each with the path of its subject.
  chain(file) {
    const steps = [];
    const seen = new Set([file.path]);
    let cause = file.cause;
    while (cause && !seen.has(cause)) {
      seen.add(cause);
      const node = this.byPath.get(cause);
      const row = this.imports.get(cause);
      if (node) steps.push({ path: cause, text: `${cause}: ${node.file.evidence}` });
      else if (row) steps.push({ path: this.moduleNode(cause)?.path, text: this.#imported(row) });
      else steps.push({ text: cause === "__main__" ? `${cause} (the entry)` : cause });
      cause = node ? node.file.cause : row?.importer;
    }
    return steps;
  }

  #imported({ module, importer, line, startup }) {
    if (importer) return `${module} is imported by ${importer}, line ${line}`;
    return startup ? `${module} was loaded when Python started` : `${module} (the entry)`;
  }

  // The node of a module's file.
  moduleNode(module) {
    this.modules ??= new Map(this.leaves.map((node) => [moduleOf(node.file.path), node]).reverse());
    return this.modules.get(module);
  }
}

// The name of the module at a path, or empty.
function moduleOf(path) {
  const found = /^(.*?)(?:\/__init__)?\.(?:pyc?|(?:[\w-]+\.)*so)$/.exec(path);
  if (/(^|\/)lib[^/]*\.so$/.test(path)) return "";
  return found ? found[1].replaceAll("/", ".") : "";
}

// ---- addresses: links to a node of the report ----------------------------------------------------------------------

// Lone surrogates represent bytes that are not valid UTF-8; they are encoded as these bytes.
function percent(text) {
  const parts = Array.from(text, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xd800 && code <= 0xdfff) return `%${(code & 0xff).toString(16).toUpperCase().padStart(2, "0")}`;
    return encodeURIComponent(character);
  });
  return parts.join("").replaceAll("%2F", "/");
}

function addressOf(node, view) {
  const named = [];
  if (node.kind === "folder" || node.kind === "distribution") named.push(`distribution=${percent(node.distribution.name)}`);
  if (node.path) named.push(`path=${percent(node.path)}`);
  if (view === "after") named.push("view=after");
  return `#${named.join("&") || "explorer"}`;
}

// Return the node and the view that a fragment names; null for those that it does not name or that do not exist.
function addressed(fragment, nodes) {
  const given = Object.fromEntries(
    fragment.replace(/^#/, "").split("&").map((pair) => [pair.split("=", 1)[0], pair.slice(pair.indexOf("=") + 1)]),
  );
  const view = { after: "after", before: "before" }[given.view] ?? null;
  if (given.distribution) {
    const folder = [...nodes.folders.values()].find((node) => given.path && same(node.path, given.path) && same(node.distribution.name, given.distribution));
    const distribution = [...nodes.distributions.values()].find((node) => same(node.name, given.distribution));
    return { node: (given.path ? folder : distribution) ?? null, view };
  }
  if (!given.path) return { node: null, view };
  return { node: nodes.byPath.get(given.path) ?? nodes.leaves.find((leaf) => same(leaf.path, given.path)) ?? null, view };
}

// Browsers encode some characters of an address differently from percent().
function same(name, given) {
  if (name === given || percent(name) === given) return true;
  try {
    return name === decodeURIComponent(given);
  } catch {
    return false;
  }
}
