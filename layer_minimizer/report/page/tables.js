// Tables of data that the treemap does not show. Each can be sorted by any column, and is shortened until expanded.

const SHORT = 12;

// A column: [title, function for a row's value, function to show it]; numbers are sorted by value, aligned right.
function sortable(caption, rows, columns, order) {
  let [by, falling] = order;
  let all = rows.length <= SHORT + 3;
  const heads = columns.map(([title], index) => {
    const button = make("button", { type: "button", on: { click: () => sort(index) } }, title);
    return make("th", { scope: "col", class: isNumber(index) ? "number" : null }, button);
  });
  const body = make("tbody");
  const more = make("button", { type: "button", class: "more", on: { click: () => fill((all = true)) } });

  function isNumber(index) {
    return rows.length > 0 && typeof columns[index][1](rows[0]) === "number";
  }
  function sort(index) {
    falling = index === by ? !falling : isNumber(index);
    by = index;
    fill();
  }
  function fill() {
    heads.forEach((head, index) => head.setAttribute("aria-sort", index === by ? (falling ? "descending" : "ascending") : "none"));
    const value = columns[by][1];
    const sorted = rows.toSorted((one, other) => compareValues(value(one), value(other)) * (falling ? -1 : 1));
    const lines = sorted.slice(0, all ? rows.length : SHORT).map((row) =>
      make("tr", null, columns.map(([, of, show], index) => make("td", { class: isNumber(index) ? "number" : null }, show ? show(of(row), row) : make("bdi", null, shown(of(row)))))),
    );
    body.replaceChildren(...lines);
    more.hidden = all;
    more.textContent = `Show all ${number(rows.length)}`;
  }
  fill();
  const table = make("table", null, make("caption", { class: "unseen" }, caption), make("thead", null, make("tr", null, heads)), body);
  return [make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `${caption}, table` }, table), more];
}

function compareValues(one, other) {
  return typeof one === "number" ? one - other : one < other ? -1 : one > other ? 1 : 0;
}

function part(id, title, ...content) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), content.flat());
}

const note = (text) => make("p", { class: "note" }, text);

function showTables(report, nodes, into) {
  into.append(
    ...[
      importTimes(report.import_time),
      libraryTable(report.libraries ?? [], nodes),
      standInTable(report.stand_ins ?? [], nodes),
      notExercised(report.not_exercised, nodes),
      repairedList(report.verification?.repaired ?? [], nodes),
      furtherLists(report),
    ].filter(Boolean),
  );
}

function libraryTable(libraries, nodes) {
  const title = "Shared libraries";
  if (!libraries.length) return part("libraries", title, note("No library was compacted."));
  const columns = ["file", "mapped", "hot", "shipped", "cold", "dropped"].map((key) => [
    key[0].toUpperCase() + key.slice(1),
    (row) => row[key],
    (value) => size(value),
  ]);
  return part(
    "libraries",
    title,
    note("File: as installed. Mapped: what the loader maps of it. Hot: the used part of that. Shipped: its size in the layer. Cold: its pages in the compressed store. Dropped: neither in the layer nor in a store."),
    sortable(
      title,
      libraries,
      [["Path", (row) => row.path, (path) => link(nodes.byPath.get(path), path)], ...columns, ["Problem", (row) => row.problem]],
      [1, true],
    ),
  );
}

function standInTable(rows, nodes) {
  if (!rows.length) return part("stand-ins", "Stand-ins", note("No module was replaced by a stand-in."));
  const columns = [
    ["Module", (row) => row.module, (module) => link(nodes.moduleNode(module), module)],
    ["Importer", (row) => row.importer, (module) => link(nodes.moduleNode(module), module)],
    ["Line", (row) => row.line ?? 0, (line) => number(line)],
    ["Size", (row) => row.bytes, (bytes) => size(bytes)],
    ["Import", (row) => row.seconds ?? 0, (value) => seconds(value)],
  ];
  return part(
    "stand-ins",
    "Stand-ins",
    note("Modules that are imported but that no event needed. Import: the time to execute the real module in the traced run."),
    sortable("Stand-ins", rows, columns, [3, true]),
  );
}

function notExercised(rows, nodes) {
  if (!rows.length) return part("not-exercised", "Not exercised", note("Events imported every module that kept code could import."));
  const columns = [
    ["Module", (row) => row.module, (module) => link(nodes.moduleNode(module), module)],
    ["Importer", (row) => row.importer, (module) => link(nodes.moduleNode(module), module)],
    ["Line", (row) => row.line, (line) => number(line)],
  ];
  return part(
    "not-exercised",
    "Not exercised",
    note("Modules that kept code could import but no event did. More events, --include or --closure static keep them."),
    sortable("Not exercised", rows, columns, [0, false]),
  );
}

function repairedList(paths, nodes) {
  if (!paths.length) return null;
  return part(
    "repaired",
    "Repaired",
    note("Files that the run on the layer alone needed, and that were added to the layer."),
    sortable("Repaired", paths, [["Path", (path) => path, (path) => link(nodes.byPath.get(path), path)]], [0, false]),
  );
}

function importTimes(times) {
  if (!times) return part("import-time", "Import time", note("Not measured."));
  const [before, after] = [times.before, times.after].map((each) => new Map(Object.entries(each.distributions)));
  const rows = [...new Set([...before.keys(), ...after.keys()])].map((name) => ({
    name: name || "(the entry, the standard library, the rest)",
    before: before.get(name) ?? 0,
    after: after.get(name) ?? 0,
  }));
  const longest = Math.max(...rows.flatMap((row) => [row.before, row.after]), 1e-9);
  const bar = (kind) => (value) => {
    const line = make("span", { class: `time ${kind}`, "aria-hidden": "true" });
    line.style.width = `${(100 * value) / longest}%`;
    return [make("span", { class: "length" }, line), seconds(value)];
  };
  return part(
    "import-time",
    "Import time",
    make("p", null, `${seconds(times.before.seconds)} before, ${seconds(times.after.seconds)} after.`),
    sortable(
      "Import time",
      rows,
      [["Distribution", (row) => row.name], ["Before", (row) => row.before, bar("before")], ["After", (row) => row.after, bar("after")]],
      [1, true],
    ),
  );
}

// Lists that most reports do not have.
function furtherLists(report) {
  const lists = [
    ["Bundled libraries", (report.bundled ?? []).map((each) => `${each.name} (${size(each.bytes)}, ${each.source}), which ${each.needed_by} needs`)],
    ["Base layers", (report.base_layers ?? []).map((each) => `${each.name}: ${size(each.unzipped_bytes)}, ${count(each.files, "file", "files")}`)],
    ["Conflicts with base layers", (report.conflicts ?? []).map((each) => `${each.name} (${each.kind}): ${each.first} and ${each.second}; ${each.winner} wins`)],
    ["Differences between traces", (report.differences ?? []).map((each) => `${each.distribution || NO_DISTRIBUTION}, only in ${each.only_in.join(", ")}: ${differing(each)}`)],
    ["Next to the entry, not in the function", report.function?.left_out ?? []],
  ].filter(([, items]) => items.length);
  if (!lists.length) return null;
  return part("further", "Further details", ...lists.map(([title, items]) => [make("h3", null, title), make("ul", null, items.map((item) => make("li", null, make("bdi", null, shown(item)))))]).flat());
}

function differing(difference) {
  const kinds = ["modules", "libraries", "files"].filter((kind) => difference[kind]);
  return kinds.map((kind) => `${number(difference[kind].length ?? difference[kind])} ${kind}`).join(", ");
}
