// The details of one node: its sizes, verdict and reason, and the chain from it to the entry.

function showDetails(body, node, { nodes, view }) {
  const name = node.path || node.name;
  const content = node.file ? fileDetails(node, nodes) : containerDetails(node, nodes);
  body.replaceChildren(
    make("p", { class: "subject" }, make("bdi", null, shown(name))),
    ...content.filter(Boolean),
    make("p", { class: "note" }, make("a", { href: addressOf(node, view) }, "Link to this")),
  );
  body.scrollTop = 0;
}

function fileDetails(node, nodes) {
  const { file } = node;
  const module = moduleOf(file.path);
  const library = nodes.libraries.get(file.path);
  return [
    facts([
      ["Distribution", link(node.distribution, file.distribution || NO_DISTRIBUTION)],
      module && ["Module", make("bdi", null, shown(module))],
      ["Installed", amount(file.bytes)],
      ["In the layer", amount(file.shipped)],
      ["Verdict", verdictText(file.verdict)],
      ["Reason", [make("code", null, shown(file.reason)), ` ${REASON_MEANS[file.reason] ?? ""}`]],
      ["Evidence", make("bdi", null, shown(file.evidence))],
      nodes.repaired.has(file.path) && ["Repaired", "The run on the layer alone needed it, so it was added."],
    ]),
    chainOf(node, nodes),
    library && libraryFacts(library),
    standInFacts(nodes.standIns.get(module), nodes),
  ];
}

function chainOf(node, nodes) {
  const steps = nodes.chain(node.file);
  if (!steps.length) return null;
  const rows = steps.map(({ path, text }) => make("li", null, path ? link(nodes.byPath.get(path), text) : make("bdi", null, shown(text))));
  return make("div", { class: "chain" }, make("h4", null, "From it to the entry"), make("ol", null, rows));
}

function libraryFacts(library) {
  const rows = ["file", "mapped", "hot", "shipped", "cold", "dropped"].map((key) => [LIBRARY_MEANS[key], amount(library[key])]);
  if (library.problem) rows.push(["Shipped whole", shown(library.problem)]);
  return make("div", null, make("h4", null, "Shared library"), facts(rows));
}

const LIBRARY_MEANS = {
  file: "Its file",
  mapped: "Mapped by the loader",
  hot: "Used",
  shipped: "Shipped",
  cold: "In the compressed store",
  dropped: "Dropped",
};

function standInFacts(standIn, nodes) {
  if (!standIn) return null;
  const touched = (standIn.touched ?? []).map(({ name, kind }) => `${name} (${kind})`).join(", ");
  return make(
    "div",
    null,
    make("h4", null, "Stand-in"),
    facts([
      ["Imported by", [link(nodes.moduleNode(standIn.importer), standIn.importer || "(unknown)"), standIn.line ? `, line ${standIn.line}` : ""]],
      standIn.seconds != null && ["Import saved", seconds(standIn.seconds)],
      ["Attributes used", touched ? make("bdi", null, shown(touched)) : "nothing"],
      ["Keep the real one with", make("code", null, `--keep ${shown(standIn.module)}`)],
    ]),
  );
}

function containerDetails(node, nodes) {
  const rows = [
    ["Kind", { root: "the whole environment", distribution: "distribution", folder: "folder", own: VERDICT_MEANS.own }[node.kind]],
    node.kind === "folder" && ["Distribution", link(node.distribution, node.distribution.name)],
    ["Files", number(node.files)],
    ["Installed", amount(node.total("before"))],
    ["In the layer", amount(node.total("after"))],
  ];
  const verdicts = VERDICTS.map((verdict, index) => [verdict, node.before[index], node.after[index]]).filter(([, before, after]) => before || after);
  const reasons = new Map();
  const add = (each) => {
    if (each.file) {
      const sum = reasons.get(each.file.reason) ?? [each.file.reason, 0, 0];
      reasons.set(each.file.reason, [sum[0], sum[1] + each.file.bytes, sum[2] + each.file.shipped]);
    }
    each.children?.forEach(add);
  };
  add(node);
  const sorted = [...reasons.values()].sort((one, other) => other[1] - one[1]);
  return [
    facts(rows),
    sums("By verdict", "Verdict", verdicts, (verdict) => [make("span", { class: `swatch ${verdict}` }), verdict]),
    sorted.length ? sums("By reason", "Reason", sorted, (reason) => make("code", { title: REASON_MEANS[reason] }, shown(reason))) : null,
  ];
}

function sums(title, heading, rows, label) {
  const head = [heading, "Installed", "In the layer"].map((text) => make("th", { scope: "col" }, text));
  const body = rows.map(([name, before, after]) =>
    make("tr", null, make("th", { scope: "row" }, label(name)), make("td", null, size(before)), make("td", null, size(after))),
  );
  return make("table", { class: "sums" }, make("caption", null, title), make("thead", null, make("tr", null, head)), make("tbody", null, body));
}

function facts(rows) {
  return make("dl", null, rows.filter(Boolean).map(([term, value]) => [make("dt", null, term), make("dd", null, value)]).flat());
}

const amount = (bytes) => (bytes < 1000 ? exact(bytes) : `${size(bytes)} (${exact(bytes)})`);

function verdictText(verdict) {
  return [make("span", { class: `swatch ${verdict}` }), make("strong", null, shown(verdict)), `: ${VERDICT_MEANS[verdict] ?? ""}`];
}

// A link that selects a node, or plain text without a node.
function link(node, text) {
  const label = make("bdi", null, shown(text));
  return node ? make("a", { href: addressOf(node) }, label) : label;
}
