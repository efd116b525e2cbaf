// Reads the report from the page: base64 of a zlib stream of JSON with columns (see html.py).

async function readReport() {
  const raw = atob(byId("data").textContent);
  const bytes = Uint8Array.from(raw, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const report = JSON.parse(await new Response(stream).text());
  for (const key of ["files", "imports", "not_exercised"]) report[key] = rowsOf(report[key] ?? {});
  return report;
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  const values = names.map((name) => (Array.isArray(columns[name]) ? columns[name] : stringsOf(columns[name])));
  return Array.from(values[0] ?? [], (_, row) => {
    const found = {};
    names.forEach((name, column) => (found[name] = values[column][row]));
    return found;
  });
}

function stringsOf({ shared, rest, at }) {
  let last = "";
  const strings = rest.map((text, index) => (last = last.slice(0, shared[index]) + text));
  return at ? at.map((place) => strings[place]) : strings;
}
