// Text for display, and elements with it. All data of the report is inserted into the page by these functions.

// Invisible characters and those that change the text's direction are shown by their code; lone surrogates represent
// bytes that are not valid UTF-8.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/gu;

function shown(text) {
  return String(text).replace(UNSEEN, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character] ?? `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

// make("p", {class: "note"}, "text", element …): strings become text, null is skipped.
function make(tag, attributes, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...content.flat().filter((part) => part != null && part !== false));
  return element;
}

const byId = (id) => document.getElementById(id);
const NUMBER = new Intl.NumberFormat("en-US");
const TENTHS = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const number = (value) => NUMBER.format(value);
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;
const exact = (bytes) => count(bytes, "byte", "bytes");

function seconds(value) {
  if (value && value < 0.001) return "< 0.001 s";
  return `${value.toFixed(!value ? 0 : value < 0.1 ? 3 : 2)} s`;
}

// Powers of ten, as in the report's text.
function size(bytes) {
  if (Math.abs(bytes) >= 1_000_000) return `${TENTHS.format(bytes / 1e6)} MB`;
  return Math.abs(bytes) >= 1000 ? `${TENTHS.format(bytes / 1e3)} kB` : `${number(bytes)} B`;
}

// The share of a whole in percent; "100 %" and "0 %" only for exactly all and nothing.
function share(part, whole) {
  if (!whole || !part) return "0 %";
  if (part === whole) return "100 %";
  const percent = Math.max(0.1, (100 * part) / whole);
  return `${(part < whole ? Math.min(99.9, percent) : percent).toFixed(1)} %`;
}
