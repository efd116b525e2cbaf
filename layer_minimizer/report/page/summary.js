// The top of the page: the result, and the use of the size limit.

function showSummary(report) {
  const { before, layer } = report;
  const entry = report.entry ?? "the entry";
  const [form, plain, packed, purpose] = FORMS[report.output] ?? FORMS.layer;
  document.title = `${shown(entry)}: ${form.toLowerCase()} report`;
  byId("title").replaceChildren(`${form} of `, make("bdi", null, shown(entry)));
  const parts = [
    make(
      "dl",
      { class: "figures" },
      figure("Environment", size(before.bytes), `${number(before.files)} files, ${count(before.distributions, "distribution", "distributions")}`),
      figure(`${form}, ${plain}`, size(layer.unzipped_bytes), `${number(layer.files)} files, ${count(layer.distributions, "distribution", "distributions")}; ${share(layer.unzipped_bytes, before.bytes)} of the bytes`),
      layer.zipped_bytes ? figure(`${form}, ${packed}`, size(layer.zipped_bytes), purpose) : null,
    ),
    make("p", null, verified(report)),
    report.lambda ? make("p", null, emulated(report.lambda)) : null,
    report.image ? image(report.image) : null,
    report.cost ? make("p", null, cost(report.cost)) : null,
    report.gpu?.files ? make("p", null, gpu(report.gpu)) : null,
    report.licenses?.files ? make("p", null, licenses(report.licenses)) : null,
    make("p", { class: "note" }, `Python ${shown(report.python ?? "")} · layer_minimizer ${shown(report.version ?? "")} · observed by ${observers(report)}`),
    warnings(report.warnings ?? []),
  ];
  byId("summary").append(...parts.filter(Boolean));
}

// By the format of the output: its name, what its sizes are called, and what the packed size is for.
const FORMS = {
  layer: ["Layer", "unzipped", "zipped", "what is uploaded"],
  folder: ["Folder", "as it is", "", ""],
  image: ["Image", "packages unpacked", "packages compressed", "what is pulled for them"],
};

const figure = (term, value, note) => make("div", null, make("dt", null, term), make("dd", null, make("strong", null, value), make("span", null, note)));

function observers({ observers: found, missing_observers: missing }) {
  const by = (found ?? []).map(shown).join(" and ") || "no observer";
  const without = (missing ?? []).map(({ observer, cause }) => `${shown(observer)} (${shown(cause)})`);
  return without.length ? `${by}, not by ${without.join(" and ")}` : by;
}

function verified({ verified: proved, verification }) {
  if (!proved || !verification) return "Not verified.";
  const { events, isolated, repaired, runs, cold_faults: faults } = verification;
  const where = isolated ? "the original environment hidden" : "no file of the original environment used";
  const back = repaired?.length ? `; ${count(repaired.length, "file", "files")} restored` : "";
  const pages = faults ? `; ${count(faults, "cold page", "cold pages")} restored` : "";
  const often = runs > 1 ? ` in ${number(runs)} runs` : "";
  return [make("strong", { class: "good" }, "Verified"), `: ${count(events, "result", "results")}, the same${often} on the layer alone (${where})${back}${pages}.`];
}

function emulated(lambda) {
  const mib = (bytes) => number(Math.round(bytes / 1048576));
  return (
    `In emulated Lambda (${shown(lambda.where)}): ${count(lambda.events, "event", "events")}, init ${lambda.init_seconds.toFixed(1)} s, ` +
    `peak ${mib(lambda.peak_bytes)} of ${number(lambda.memory)} MB, /tmp ${mib(lambda.tmp_bytes)} of ${number(lambda.tmp_size)} MB.`
  );
}

function cost({ before, after, memory, price_per_gb_second: price, origin }) {
  const mib = (bytes) => number(Math.round(bytes / 1048576));
  const dollars = (amount) => `$${amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  return (
    `Cold starts, as measured on the machine that made the layer: init ${before.seconds.toFixed(2)} → ${after.seconds.toFixed(2)} s, ` +
    `memory ${mib(before.peak_bytes)} → ${mib(after.peak_bytes)} MB. A million at ${number(memory)} MB: ` +
    `${dollars(before.per_million_starts)} → ${dollars(after.per_million_starts)} (${price.toFixed(10)} per GB-second, ${shown(origin)}).`
  );
}

function image({ tag, digest, base, parts, command, verified: where, seconds: answer }) {
  const rows = parts.map(({ name, bytes, unpacked_bytes: unpacked, digests }) =>
    make(
      "tr",
      null,
      make("th", { scope: "row" }, shown(name)),
      make("td", null, size(bytes)),
      make("td", null, size(unpacked)),
      make("td", null, digests.length === 1 ? make("code", null, shown(digests[0])) : count(digests.length, "layer", "layers")),
    ),
  );
  const heads = ["Part", "Compressed", "Unpacked", "Digest"].map((text) => make("th", { scope: "col" }, text));
  return make(
    "details",
    { class: "image" },
    make("summary", null, make("bdi", null, `Image ${shown(tag)}`), ", above ", make("bdi", null, shown(base))),
    make("p", null, `Verified in a container (${shown(where)}): read-only, as another user, same results, the last ${answer.toFixed(1)} s after its start.`),
    make("p", null, "Manifest ", make("code", null, shown(digest)), "; starts ", make("code", null, shown(command.join(" "))), "."),
    make("table", null, make("thead", null, make("tr", null, heads)), make("tbody", null, rows)),
  );
}

function gpu({ bytes, shipped, distributions, cpu_builds: builds }) {
  const where = Object.entries(builds).map(([name, place]) => ` ${shown(name)} has a build without them: ${shown(place)}.`);
  return (
    `For a GPU: ${size(bytes)} in ${count(Object.keys(distributions).length, "distribution", "distributions")}, of which ${size(shipped)} are shipped: ` +
    `what the run used, and what other libraries link to.${where.join("")}`
  );
}

function licenses({ files, bytes, equal, without }) {
  const missing = without.length ? ` Without a license text: ${without.map(shown).join(", ")}.` : "";
  return `Licenses: ${count(files, "text or METADATA file", "texts and METADATA files")}${equal ? `, ${number(equal)} of them links to equal ones` : ""}, ${size(bytes)}.${missing}`;
}

function warnings(messages) {
  if (!messages.length) return null;
  return make(
    "details",
    { class: "warnings", open: messages.length <= 3 },
    make("summary", null, count(messages.length, "warning", "warnings")),
    make("ul", null, messages.map((warning) => make("li", null, make("bdi", null, shown(warning))))),
  );
}

function showBudget({ budget }, section) {
  if (!budget) {
    section.hidden = true;
    return;
  }
  const parts = [
    ["layer", "Layer", budget.layer],
    ["base", "Base layers", budget.base_layers],
    ["function", "Function", budget.function],
  ];
  const used = parts.reduce((sum, [, , bytes]) => sum + bytes, 0);
  const free = budget.limit - used;
  parts.push(free >= 0 ? ["free", "Free", free] : ["over", "Over the limit", -free]);
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  for (const [name, , bytes] of parts) {
    if (!bytes || name === "over") continue;
    const part = make("span", { class: name });
    part.style.flexGrow = bytes / Math.max(used, budget.limit);
    bar.append(part);
  }
  if (free < 0) {
    const mark = make("span", { class: "limit" });
    mark.style.left = `${(100 * budget.limit) / used}%`;
    bar.append(mark);
  }
  section.firstElementChild.after(make("p", null, `${size(used)} of ${size(budget.limit)} unzipped, ${share(used, budget.limit)}${free < 0 ? "; over the limit" : ""}.`));
  section.append(
    bar,
    make("ul", { class: "key" }, parts.map(([name, label, bytes]) => make("li", null, make("span", { class: `dot ${name}` }), `${label} `, make("strong", null, size(bytes))))),
  );
}
