// A small drawing of the layer, from bottom to top as in Figure 1 of the paper: which block works
// now, and from where its queries, keys and values come.

const BLOCKS = {
  encoder: ["self_attention", "add_norm1", "feed_forward", "add_norm2"],
  decoder: ["self_attention", "add_norm1", "cross_attention", "add_norm2", "feed_forward", "add_norm3"],
};
const sideOf = (kind) => (kind === "encoder" ? "encoder" : "decoder");
const isNorm = (block) => block.startsWith("add_norm");
const isAttention = (block) => block.endsWith("attention");

function blockName(block, kind) {
  const name = isNorm(block) ? "add_norm" : block === "self_attention" ? `${sideOf(kind)}_self` : block;
  return say(`inside.block.${name}`);
}

function svg(tag, attributes, ...children) {
  const { dataset = {}, ...others } = attributes;
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(others)) made.setAttribute(name, value);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

// What lights up at a step: `block` says in which one, `keys` at which of its steps (all without).
function layerDrawing(kind) {
  const drawn = [];
  const [middle, left, right, wide] = [186, 120, 252, 284]; // of the boxes; the residuals' path
  const part = (tag, attributes, block, keys, ...children) => {
    drawn.push(svg(tag, { ...attributes, dataset: { block, ...(keys && { keys }) } }, ...children));
  };
  const box = (x, y, width, height, text, block, keys) => {
    part("rect", { x, y, width, height, rx: 6 }, block, keys);
    const lines = text.split("\n");
    const first = y + height / 2 + 4.5 - 7.5 * (lines.length - 1);
    part("text", { "text-anchor": "middle" }, block, keys,
      ...lines.map((line, i) => svg("tspan", { x: x + width / 2, y: first + 15 * i }, line)));
  };
  const arrow = (d, block, keys, head = true) =>
    part("path", { d, ...(head && { "marker-end": "url(#inside-arrow)" }) }, block, keys);
  const letter = (x, y, text, block, keys) => part("text", { x, y, class: "letter" }, block, keys, text);

  const blocks = BLOCKS[sideOf(kind)];
  let y = blocks.reduce((sum, block) => sum + (isNorm(block) ? 44 : isAttention(block) ? 104 : 62), 46);
  const height = y;
  part("text", { x: middle, y: y - 6, "text-anchor": "middle", class: "token-name" }, blocks[0], "x");
  y -= 22;
  let start = y; // where the residual leaves the path
  for (const [i, block] of blocks.entries()) {
    if (isNorm(block)) {
      arrow(`M${middle} ${y} V${y - 14}`, block);
      arrow(`M${middle} ${start} H${wide} V${y - 28} H${right + 3}`, block, "residual");
      box(left, y - 44, right - left, 28, say("inside.block.add_norm"), block);
      y -= 44;
      start = y - 8;
      continue;
    }
    if (isAttention(block)) {
      const cross = block === "cross_attention";
      start = y - 8;
      const from = cross ? "memory" : "tokens";
      const under = y - 42;
      arrow(`M${middle} ${y} V${y - 18} H${middle + 44} V${under - 14}`, block, "x query");
      if (!cross) arrow(`M${middle} ${y - 18} H80`, block, from);
      box(4, y - 32, 74, 38, say(`inside.drawing.${from}`), block, from);
      arrow(`M41 ${y - 32} V${y - 44} H${middle - 46} V${under - 14}`, block, `${from} values`);
      arrow(`M41 ${y - 44} H${middle} V${under - 14}`, block, `${from} keys`);
      letter(middle - 38, under - 1, "V", block, "values");
      letter(middle + 8, under - 1, "K", block, "keys");
      letter(middle + 52, under - 1, "Q", block, "query");
      box(left, y - 102, right - left, 44, blockName(block, kind), block,
        "products score scores scaled padding_mask decoder_mask masked weights weighted head heads projected attended");
      y -= 102;
    } else {
      start = y - 8;
      arrow(`M${middle} ${y} V${y - 22}`, block);
      box(left, y - 62, right - left, 38, blockName(block, kind), block);
      y -= 62;
    }
    if (i === blocks.length - 1) break;
  }
  arrow(`M${middle} ${y} V${y - 16}`, blocks.at(-1), "norm");
  const marker = svg("marker", { id: "inside-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { d: "M0 0 L8 4 L0 8 z" }));
  return svg("svg", { viewBox: `0 0 300 ${height}`, role: "img" }, svg("defs", {}, marker), ...drawn);
}

function lightUp(drawing, step, kind, token) {
  for (const each of drawing.querySelectorAll("[data-block]")) {
    const { block, keys } = each.dataset;
    each.classList.toggle("here", block === step.block && (!keys || keys.split(" ").includes(step.key)));
  }
  drawing.querySelector(".token-name").textContent = token;
  const from = step.block === "cross_attention" ? "memory" : isAttention(step.block) ? "tokens" : "";
  drawing.ariaLabel = say(`inside.drawing.${from ? `at_${from}` : "at"}`, {
    side: say(`inside.side.${sideOf(kind)}`), block: blockName(step.block, kind),
  });
}
