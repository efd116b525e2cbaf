// The treemap: areas are bytes, colours and patterns are verdicts. It shows the same data as the tree, and is an image
// for screen readers. Drawn on a canvas, since thousands of elements would be slow.

// Containers with less area (square pixels) are drawn as one area, with the verdict of most of their bytes.
const TINY = 20;
const HEADER = 17;
const PATTERNS = {
  compacted: ["0 4 L8 4"],
  cold: ["3 4 L5 4"],
  "stand-in": ["-2 2 L2 -2", "0 8 L8 0", "6 10 L10 6"],
  own: ["0 4 L8 4", "4 0 L4 8"],
};

class Treemap {
  constructor(canvas, tip, choose) {
    this.canvas = canvas;
    this.tip = tip;
    this.context = canvas.getContext("2d");
    canvas.addEventListener("click", (event) => this.#chosen(event, choose));
    canvas.addEventListener("pointermove", (event) => this.#hover(event));
    canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  }

  // Compute the layout of the zoomed node, and paint it.
  update(state) {
    this.state = state;
    const { width, height } = this.canvas.getBoundingClientRect();
    this.scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    const density = (width * height) / Math.max(1, valueOf(state.zoom, state));
    const divided = (node) =>
      valueOf(node, state) * density < TINY ? null : node.children?.filter((child) => valueOf(child, state) > 0);
    const layout = d3.hierarchy(state.zoom, divided);
    layout.each((area) => (area.value = valueOf(area.data, state)));
    layout.sort((one, other) => other.value - one.value);
    d3.treemap()
      .size([width, height])
      .paddingOuter((area) => (area.depth && roomy(area) ? 2 : 0))
      .paddingTop((area) => (area.depth && roomy(area) ? HEADER : 0))(layout);
    this.layout = layout;
    this.areas = new Map(layout.descendants().map((area) => [area.data, area]));
    this.paint();
  }

  paint() {
    const { context, scale, layout } = this;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, layout.x1, layout.y1);
    context.textBaseline = "middle";
    this.#containers(colour);
    const groups = new Map(VERDICTS.map((verdict) => [verdict, []]));
    for (const area of layout.leaves()) {
      if (area.value) groups.get(area.data.verdict(this.state.view, this.state.verdicts)).push(area);
    }
    for (const [verdict, areas] of groups) this.#fill(verdict, areas, colour);
    if (!layout.value) this.#message("No bytes to show: nothing of it is in the layer, or its verdicts are not selected.", colour);
    this.#mark(colour);
  }

  #containers(colour) {
    const { context } = this;
    for (const area of this.layout.descendants()) {
      if (!area.depth || !area.children) continue;
      context.fillStyle = colour(area.depth % 2 ? "container" : "container-inner");
      box(context, area);
      if (!roomy(area)) continue;
      context.fillStyle = colour("text");
      context.font = `${area.data.kind === "distribution" ? "600 " : ""}11px ${FONT}`;
      const y = area.y0 + HEADER / 2;
      if (!this.#label(`${area.data.name}  ${size(area.value)}`, area, y, null, false)) this.#label(area.data.name, area, y);
    }
  }

  #fill(verdict, areas, colour) {
    const { context } = this;
    context.fillStyle = colour(verdict);
    for (const area of areas) box(context, area);
    if (PATTERNS[verdict]) {
      context.fillStyle = pattern(context, verdict, colour(`${verdict}-line`));
      for (const area of areas) {
        if (area.x1 - area.x0 > 5 && area.y1 - area.y0 > 5) box(context, area);
      }
    }
    context.font = `11px ${FONT}`;
    for (const area of areas) {
      if (area.x1 - area.x0 < 46 || area.y1 - area.y0 < 16) continue;
      const tall = area.y1 - area.y0 >= 32;
      context.fillStyle = colour(`${verdict}-text`);
      this.#label(area.data.name, area, area.y0 + 10, colour(verdict));
      if (tall) this.#label(size(area.value), area, area.y0 + 23, colour(verdict), false);
    }
  }

  // Cut a name to its area, and omit a number that does not fit; a plain background keeps text readable on patterns.
  #label(text, area, y, behind, cut = true) {
    const { context } = this;
    const room = area.x1 - area.x0 - 8;
    let label = shown(text);
    let width = context.measureText(label).width;
    if (width > room && !cut) return false;
    for (let left = Math.ceil((label.length * room) / width); width > room; left -= 1) {
      if (left < 3) return false;
      label = `${shown(text).slice(0, left)}…`;
      width = context.measureText(label).width;
    }
    if (behind) {
      const ink = context.fillStyle;
      context.fillStyle = behind;
      context.fillRect(area.x0 + 2, y - 7, Math.min(width + 4, room + 6), 14);
      context.fillStyle = ink;
    }
    context.fillText(label, area.x0 + 4, y);
    return true;
  }

  #mark(colour) {
    const area = this.#nearest(this.state.selected);
    if (!area || !area.depth) return;
    const { context } = this;
    // The mark has a minimum size, to be visible around tiny areas.
    const across = Math.max(12, area.x1 - area.x0);
    const down = Math.max(12, area.y1 - area.y0);
    const left = Math.min((area.x0 + area.x1 - across) / 2, this.layout.x1 - across);
    const top = Math.min((area.y0 + area.y1 - down) / 2, this.layout.y1 - down);
    for (const [width, name] of [[5, "bg"], [2.5, "mark"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour(name);
      context.strokeRect(Math.max(0, left) + 1, Math.max(0, top) + 1, across - 2, down - 2);
    }
  }

  #message(text, colour) {
    this.context.fillStyle = colour("muted");
    this.context.font = `14px ${FONT}`;
    this.context.fillText(text, 12, 24);
  }

  // The area of a node, or of its nearest drawn parent.
  #nearest(node) {
    for (let each = node; each; each = each.parent) if (this.areas.has(each)) return this.areas.get(each);
    return null;
  }

  // Whether a node has an area of its own that is large enough to see and click.
  shows(node) {
    const area = this.areas.get(node);
    return Boolean(area) && (area.x1 - area.x0) * (area.y1 - area.y0) >= TINY;
  }

  // The rectangle of a node, in the window's pixels.
  rectangle(node) {
    const area = this.#nearest(node);
    if (!area) return null;
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: left + area.x0, y: top + area.y0, width: area.x1 - area.x0, height: area.y1 - area.y0, exact: area.data === node };
  }

  #at({ offsetX: x, offsetY: y }) {
    let area = this.layout;
    for (let inner = area; inner; ) {
      area = inner;
      inner = area.children?.find((each) => x >= each.x0 && x < each.x1 && y >= each.y0 && y < each.y1);
    }
    return area.data;
  }

  #chosen(event, choose) {
    const node = this.#at(event);
    if (node !== this.state.zoom) choose(node);
  }

  #hover(event) {
    const node = this.#at(event);
    this.tip.hidden = node === this.state.zoom;
    if (this.tip.hidden) return;
    const name = node.path || node.name;
    this.tip.textContent = `${shown(name)} · ${size(valueOf(node, this.state))} · ${node.file ? node.file.verdict : count(node.files, "file", "files")}`;
    const room = this.canvas.clientWidth - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(event.offsetX + 12, room))}px`;
    this.tip.style.top = `${event.offsetY + (event.offsetY > this.canvas.clientHeight - 60 ? -34 : 18)}px`;
  }
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

// Areas end at whole pixels, with a gap between them except for small ones.
function box(context, area) {
  const [left, top, right, bottom] = [area.x0, area.y0, area.x1, area.y1].map(Math.round);
  context.fillRect(left, top, right - left - (right - left > 3 ? 1 : 0), bottom - top - (bottom - top > 3 ? 1 : 0));
}

// Headers reduce the area of the content: small and deep containers have none.
function roomy(area) {
  return area.depth <= 4 && area.x1 - area.x0 > 50 && area.y1 - area.y0 > 44;
}

function pattern(context, verdict, colour) {
  const tile = new OffscreenCanvas(8, 8);
  const inner = tile.getContext("2d");
  inner.strokeStyle = colour;
  inner.lineWidth = verdict === "cold" ? 2 : 1;
  for (const line of PATTERNS[verdict]) inner.stroke(new Path2D(`M${line}`));
  return context.createPattern(tile, "repeat");
}
