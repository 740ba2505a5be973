// A panel of the Compare tab: what a model writes, the tokens that ask, all heads, one of them large.

function panel(number) {
  const chosen = { place: null, layer: 0, head: MEAN, query: 0 };
  const parts = Object.fromEntries(["title", "translation", "facts", "queries", "grid", "caption", "table"].map((name) =>
    [name, make({ title: "h2", translation: "p", facts: "p", caption: "figcaption", table: "table" }[name] ?? "div", { className: name })]));
  const canvas = make("canvas", { className: "map", role: "img" });
  const numbers = make("details", {}, make("summary", { textContent: say("compare.numbers") }),
    make("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: say("compare.numbers") }, parts.table));
  const root = make("div", { className: "panel" },
    parts.title, parts.translation, parts.facts, parts.queries,
    make("div", { className: "pictures" },
      make("figure", {}, make("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: say("compare.map") }, canvas), parts.caption),
      parts.grid),
    numbers);
  parts.queries.className = "tokens queries";
  parts.queries.role = "toolbar";
  parts.queries.ariaLabel = say("compare.tokens");
  parts.grid.role = "group";
  parts.grid.ariaLabel = say("compare.heads");
  parts.facts.className = "small facts";

  const look = () => shown.looks[shown.run ? Math.round(state.at) : chosen.place];
  const row = (values, columns) => values.subarray(chosen.query * columns, (chosen.query + 1) * columns);
  const where = () => say("compare.where", {
    kind: say(`heads.kind.${shown.kind}`), layer: chosen.layer + 1,
    head: chosen.head === MEAN ? say("compare.mean") : say("compare.head", { head: chosen.head + 1 }),
  });

  // Another answer; `anew` where the heads are others than before.
  function show(place, anew) {
    root.hidden = place === null;
    Object.assign(chosen, { place });
    if (place === null) return;
    const { layers, heads } = shown.looks[place];
    if (anew || chosen.layer >= layers || (chosen.head !== MEAN && chosen.head >= heads)) Object.assign(chosen, sharpest(place));
    const [asking] = labels(shown.looks[place]);
    const side = shown.kind === "encoder" ? 0 : 1;
    chosen.query = Math.min(chosen.query, asking.length - 1);
    parts.queries.lang = languageOf(side);
    parts.queries.replaceChildren(...asking.map((piece, i) => {
      const token = button("token", readable(piece));
      token.dataset.index = i;
      token.classList.toggle("joins", joins(piece, i, languageOf(side)));
      return token;
    }));
    parts.grid.style.setProperty("--columns", heads + 1);
    parts.grid.replaceChildren(...[...Array(layers).keys()].flatMap((layer) => [MEAN, ...Array(heads).keys()].map((head) => {
      const text = say("compare.cell", { layer: layer + 1, head: head === MEAN ? say("compare.mean") : say("heads.short", { head: head + 1 }) });
      const cell = button("cell");
      Object.assign(cell.dataset, { layer, head });
      cell.append(make("canvas", {}), make("small", { textContent: text }));
      return cell;
    })));
  }

  function draw() {
    if (chosen.place === null) return;
    const one = look(), { rows, columns } = one.attention;
    parts.title.textContent = shown.run ? "" : `${"AB"[number]}: ${nameOf[one.key]}`;
    parts.translation.lang = languageOf(1);
    parts.translation.textContent = (one.text || "–") + (one.ended ? "" : " …");
    parts.facts.textContent = facts(one);
    [...parts.queries.children].forEach((token, i) => {
      token.ariaPressed = i === chosen.query;
      token.tabIndex = i === chosen.query ? 0 : -1;
    });
    for (const cell of parts.grid.children) {
      const layer = Number(cell.dataset.layer), head = cell.dataset.head === MEAN ? MEAN : Number(cell.dataset.head);
      const here = layer === chosen.layer && head === chosen.head;
      cell.ariaPressed = here;
      cell.tabIndex = here ? 0 : -1;
      paint(cell.firstChild, matrix(chosen.place, layer, head), rows, columns);
    }
    drawMap(matrix(chosen.place, chosen.layer, chosen.head), one);
    if (numbers.open && !playing) drawTable();
  }

  const facts = ({ scores, device, ms, parameters }) => [
    scores.bleu === undefined ? "" : say("compare.scores", { loss: decimals(scores.validation_loss), bleu: tenths(scores.bleu) }),
    say("compare.speed", { ms: decimals(ms), device }),
    say("compare.size", { count: compact(parameters) }),
  ].filter(Boolean).join(" · ");

  // 2.16 M, or 216 万
  const compact = (number) => new Intl.NumberFormat(lab.language, { notation: "compact", maximumSignificantDigits: 3 })
    .format(number).replace(/(\d)(\D+)$/, "$1\u00a0$2");

  // Where the chosen token looks most.
  function most() {
    const one = look(), [asking, answering] = labels(one);
    const values = row(matrix(chosen.place, chosen.layer, chosen.head), answering.length);
    const best = values.indexOf(Math.max(...values));
    return { query: readable(asking[chosen.query]), key: readable(answering[best]), share: percent(values[best]), where: where() };
  }

  // One pixel a weight, then enlarged: 60 × 60 of them in much less than a frame.
  function paint(small, values, rows, columns) {
    if (small.width !== columns || small.height !== rows) [small.width, small.height] = [columns, rows];
    const context = small.getContext("2d"), image = context.createImageData(columns, rows);
    const colours = new Uint32Array(image.data.buffer);
    for (let i = 0; i < colours.length; i++) colours[i] = PALETTE[Math.round(255 * values[i])];
    context.putImageData(image, 0, 0);
  }

  function drawMap(values, one) {
    const [asking, answering] = labels(one), [rows, columns] = [asking.length, answering.length];
    const style = getComputedStyle(root), ratio = window.devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    context.font = `13px ${style.fontFamily}`;
    const widest = (names) => Math.min(Math.max(...names.map((name) => context.measureText(readable(name)).width)), 120);
    const [above, below] = { cross: ["target", "source"], decoder: ["target", "target"], encoder: ["source", "source"] }[shown.kind];
    const title = { query: say("compare.query", { who: say(`compare.side.${above}`) }), key: say("compare.key", { who: say(`compare.side.${below}`) }) };
    const left = Math.round(Math.max(widest(asking), context.measureText(title.query).width) + 12);
    const top = Math.round(widest(answering) * 0.75 + 34);
    const room = (canvas.parentElement.clientWidth || 600) - left - 50; // labels lean out to the right
    const cell = Math.floor(Math.max(14, Math.min(34, room / columns)));
    const width = Math.max(left + cell * columns + 50, left + context.measureText(title.key).width + 8), height = top + cell * rows + 34;
    const sizes = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== sizes[0] || canvas.height !== sizes[1]) {
      [canvas.width, canvas.height] = sizes;
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `13px ${style.fontFamily}`;
    paint(pixels, values, rows, columns);
    context.imageSmoothingEnabled = false;
    context.drawImage(pixels, left, top, cell * columns, cell * rows);
    context.strokeStyle = style.getPropertyValue("--button-primary-background-fill");
    context.lineWidth = 3;
    context.strokeRect(left - 2, top + chosen.query * cell, cell * columns + 4, cell);
    context.fillStyle = style.color;
    context.textBaseline = "middle";
    context.textAlign = "right";
    asking.forEach((name, t) => context.fillText(readable(name), left - 8, top + (t + 0.5) * cell, left - 10));
    context.fillText(title.query, left - 8, top - 12);
    context.textAlign = "left";
    context.fillText(title.key, left, 10);
    answering.forEach((name, s) => {
      context.save();
      context.translate(left + (s + 0.5) * cell, top - 8);
      context.rotate(-Math.PI / 4);
      context.fillText(readable(name), 0, 0, 120);
      context.restore();
    });
    for (let i = 0; i < 100; i++) {
      context.fillStyle = colour(i / 99);
      context.fillRect(left + i, top + cell * rows + 14, 1, 10);
    }
    context.fillStyle = style.color;
    context.fillText("0 … 100 %", left + 108, top + cell * rows + 20);
    parts.caption.textContent = say("compare.rows", { where: where() });
    canvas.ariaLabel = say("compare.map_of", { where: where(), rows, columns });
  }

  function drawTable() {
    const [asking, answering] = labels(look()), values = matrix(chosen.place, chosen.layer, chosen.head);
    parts.table.replaceChildren(
      make("caption", { textContent: where() }),
      make("tr", {}, make("td"), ...answering.map((key) => make("th", { scope: "col", textContent: readable(key) }))),
      ...asking.map((query, t) => make("tr", {}, make("th", { scope: "row", textContent: readable(query) }),
        ...answering.map((_, s) => make("td", { textContent: percent(values[t * answering.length + s]) })))));
  }

  function choose(changes) {
    Object.assign(chosen, changes);
    redraw();
  }

  root.addEventListener("click", ({ target }) => {
    const clicked = target.closest("button");
    if (clicked?.matches(".token")) choose({ query: Number(clicked.dataset.index) });
    if (clicked?.matches(".cell")) pick(clicked);
  });

  function pick({ dataset: { layer, head } }) {
    choose({ layer: Number(layer), head: head === MEAN ? MEAN : Number(head) });
  }

  root.addEventListener("keydown", (event) => {
    const focused = event.target, width = focused.matches(".cell") ? look().heads + 1 : 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !focused.matches(".token, .cell")) return;
    event.preventDefault();
    const all = [...focused.parentElement.children];
    const next = all[Math.min(Math.max(all.indexOf(focused) + step, 0), all.length - 1)];
    if (next.matches(".token")) choose({ query: Number(next.dataset.index) });
    else pick(next);
    next.focus();
  });
  numbers.addEventListener("toggle", () => shown && numbers.open && drawTable());
  $(".panels").append(root);
  return { show, draw, most };
}

// The colours as a canvas keeps them: red, green, blue and opacity in the four bytes of a number.
const PALETTE = new Uint32Array(new Uint8Array(
  [...Array(256).keys()].flatMap((i) => [...colour(i / 255).match(/\d+/g).map(Number), 255])).buffer);
const pixels = document.createElement("canvas");
