// Puts on the page what translate_state.js says is on show.

function draw() {
  const { queries, keys } = labels();
  const { values } = picture();
  const row = rowOf(values, state.query);
  const [asks, answers] = SIDES[state.kind];
  $(".asks").textContent = say("translate.asks", { language: language(asks) });
  $(".answers").textContent = say("translate.answers", { language: language(answers) });
  const ready = state.written >= shown.target.filter((piece) => piece !== END).length;
  $(".translation").textContent = ready ? shown.text : `${shown.target.slice(0, state.written).join("").trim()} …`;
  $(".step").textContent = say("translate.step", { at: state.query + 1, of: queries.length });
  $(".slider").max = queries.length;
  $(".slider").value = state.query + 1;
  $(".slider").setAttribute("aria-valuetext", `${$(".step").textContent}: ${readable(queries[state.query])}`);
  drawPlayer();
  drawQueries(queries, shown.languages[asks], asks === "target" ? state.written : queries.length);
  drawCandidates();
  drawKeys(keys, row, shown.languages[answers]);
  drawGame();
  $(".sentence").ariaLive = timer ? "off" : "polite"; // not read aloud while it plays
  $(".sentence").textContent = game.on ? guessSaid(queries, keys, row) : "";
  if (covered()) return;
  $(".sentence").textContent = joined([$(".sentence").textContent, sentence(queries, keys, row)]);
  drawSettings();
  drawGrid();
  drawMap();
  if ($(".numbers").open) drawTable();
}

function drawQueries(queries, language, written) {
  const box = $(".queries");
  if (box.children.length !== queries.length) box.replaceChildren(...queries.map(() => button("token")));
  box.lang = language;
  [...box.children].forEach((token, i) => {
    token.textContent = i < written ? readable(queries[i]) : "·";
    token.disabled = i >= written;
    token.dataset.index = i;
    token.classList.toggle("joins", joins(queries[i], i, language));
    token.setAttribute("aria-pressed", i === state.query);
    token.tabIndex = i === state.query ? 0 : -1; // one stop for Tab, arrows inside
  });
}

// The most probable tokens of the step; a click takes another one.
function drawCandidates() {
  $(".choice").hidden = state.kind === "encoder";
  if (state.kind === "encoder") return;
  const { chosen, candidates } = shown.steps[state.query];
  const all = candidates.some(([id]) => id === chosen[0]) ? candidates : [...candidates, chosen];
  $(".of").textContent = say(
    shown.taken.includes(state.query) ? "translate.of_forced" : lab.offline ? "translate.of_offline" : "translate.of",
    { at: state.query + 1 });
  if (lab.offline) $(".candidates").ariaLabel = $(".of").textContent;
  $(".candidates").lang = shown.languages.target;
  $(".candidates").replaceChildren(...all.map(([id, piece, probability]) => {
    const made = bars("button", piece, probability, probability);
    if (joins(piece, state.query, shown.languages.target) && /^\p{L}/u.test(piece)) made.firstChild.prepend("-"); // not the word alone
    made.type = "button";
    made.dataset.id = id;
    made.disabled = id === 0 || Boolean(lab.offline); // padding is nothing to write
    made.setAttribute("aria-pressed", id === chosen[0]);
    return made;
  }));
}

function bars(tag, piece, share, height) {
  const bar = make("i");
  bar.style.setProperty("--share", height);
  return make(tag, { className: "token" }, make("span", { textContent: readable(piece) }), bar, make("small", { textContent: shareSaid(share) }));
}

function drawPlayer() {
  const word = timer ? "pause" : state.written < shown.target.length ? "go_on" : "replay";
  $(".play").dataset.symbol = timer ? "pause" : "play";
  $(".play span").textContent = texts(word);
}

// Elements stay while the sentence does: a head is switched many times, its tokens are the same.
function drawKeys(keys, row, language) {
  const box = $(".keys");
  const wanted = [covered(), askable(), language, ...keys].join("\n");
  if (box.dataset.shown !== wanted) {
    box.dataset.shown = wanted;
    box.lang = language;
    box.setAttribute("role", covered() ? "group" : "list");
    box.ariaLabel = $(".answers").textContent;
    box.replaceChildren(...keys.map((key, s) => {
      const token = covered() ? button("token", readable(key)) : bars("span", key, 0, 0);
      if (covered()) token.disabled = !askable() || !guessable(keys).includes(s);
      else token.setAttribute("role", "listitem");
      token.dataset.key = s;
      token.classList.toggle("joins", joins(key, s, language));
      return token;
    }));
  }
  if (covered()) return;
  const scaled = SCALES[state.scale](row);
  const most = highest(row);
  [...box.children].forEach((token, s) => {
    const [, bar, number] = token.children;
    bar.style.setProperty("--share", scaled[s].toFixed(3));
    number.textContent = shareSaid(row[s]);
    token.classList.toggle("most", most > 0 && row[s] === most);
    token.classList.toggle("guessed", game.on && game.guessed === s);
  });
}

const shareSaid = (share) => (share && share < 0.005 ? "< 1 %" : percent(share));

function sentence(queries, keys, row) {
  const best = [...row].map((weight, s) => [weight, s]).sort((a, b) => b[0] - a[0]).slice(0, 3)
    .filter(([weight], i) => i === 0 || weight >= 0.05)
    .map(([weight, s]) => say("translate.share", { token: readable(keys[s]), share: percent(weight) }));
  const values = { token: readable(queries[state.query]), best: best.join(texts("comma")) };
  const { share, target } = picture();
  const looked = state.together === "rollout" ? "made_of" : state.kind === "encoder" ? "looks" : "looked";
  const parts = [highest(row) > 0 ? say(`translate.${looked}`, values) : say("translate.nowhere", values)];
  if (target) parts.push(say("translate.from_target", { share: percent(target[state.query]) }));
  if (share) parts.push(say(state.together === "maximum" ? "translate.hidden_most" : "translate.hidden", { token: hiddenToken(), share: percent(share[state.query]) }));
  const bits = { where: where(), bits: entropy(row).toFixed(1), most: Math.log2(keys.length).toFixed(1) };
  parts.push(say(state.together === "maximum" ? "translate.in" : "translate.in_bits", bits));
  return joined(parts);
}

function drawSettings() {
  const every = [["all", texts("all")]];
  const numbers = (count) => range(count).map((i) => [`${i}`, `${i + 1}`]);
  const some = state.head === SOME ? [[SOME, say("translate.some", { n: state.heads.length })]] : [];
  filled($(".layer"), [...numbers(shown.layers), ...every, ...some], `${state.layer}`);
  filled($(".head"), [...every, ...numbers(shown.heads), ...some], `${state.head}`);
  for (const name of ["kind", "together", "scale"]) $(`select.${name}`).value = state[name];
  const rolling = state.together === "rollout";
  $(".layer").disabled = $(".head").disabled = rolling;
  $(".hide").textContent = say("translate.hide", { token: hiddenToken() });
  $("input.sink").checked = state.hidden;
  $(".several").setAttribute("aria-pressed", state.several);
  $(".formula").hidden = !rolling;
  if (!rolling) return;
  const name = state.kind === "cross" ? "cross" : "stack";
  $(".formula").replaceChildren(make("p", { textContent: texts(`rollout_${name}`) }), formula(name), formula("mixed"));
}

function filled(select, options, chosen) { // anew only where something else can be chosen
  const offered = [...select.options].map(({ value }) => value).join();
  if (offered !== options.map(([value]) => value).join() || chosen === SOME) fill(select, options, chosen);
  select.value = chosen;
}

// A formula that Python wrote as MathML.
const formula = (name) => document.importNode(new DOMParser().parseFromString(props.formulas[name], "text/html").body.firstChild, true);

// Every head small, and each layer's heads together; below them how broadly they look, in bits.
function drawGrid() {
  const grid = $(".grid");
  const together = state.together === "maximum" ? "maximum" : "mean";
  const cells = range(shown.layers).flatMap((layer) => ["all", ...range(shown.heads)].map((head) => ({ layer, head })));
  const wanted = [state.kind, state.scale, state.hidden, together].join();
  if (painted !== wanted) {
    painted = wanted;
    grid.style.setProperty("--columns", shown.heads + 1);
    grid.replaceChildren(...cells.map(({ layer, head }) => {
      const heads = (head === "all" ? range(shown.heads) : [head]).map((h) => [layer, h]);
      const { values } = picture(heads, together);
      const name = `L${layer + 1} ${head === "all" ? texts(together) : `H${head + 1}`}`;
      const bits = together === "maximum" && head === "all" ? "" : say("translate.bits", { bits: meanEntropy(values).toFixed(1) });
      const cell = make("button", { type: "button", className: "cell", dataset: { layer, head } },
        cellsOf(values, state.scale), make("small", { textContent: name }), make("small", { textContent: bits }));
      cell.ariaLabel = [name, bits].filter(Boolean).join(", ");
      return cell;
    }));
  }
  const chosen = ({ layer, head }) => state.together !== "rollout" && (head === "all"
    ? state.layer === layer && state.head === "all"
    : state.head !== "all" && state.heads.some(([l, h]) => l === layer && h === head));
  const stop = Math.max(0, cells.findIndex(chosen));
  cells.forEach((cell, i) => {
    grid.children[i].setAttribute("aria-pressed", chosen(cell));
    grid.children[i].tabIndex = i === stop ? 0 : -1;
  });
}

function drawMap() {
  if (!mapRoom) measureMap();
  const style = getComputedStyle($(".lab"));
  const context = make("canvas").getContext("2d");
  context.font = `13px ${style.fontFamily}`;
  const measure = (text) => context.measureText(text).width;
  const canvas = $(".map");
  plan = layout(mapped(), { room: mapRoom, font: context.font, measure });
  const outline = style.getPropertyValue("--button-primary-background-fill");
  paint(canvas, plan, { ratio: window.devicePixelRatio || 1, ink: style.color, outline });
  $("figcaption").textContent = caption();
  canvas.ariaLabel = say("translate.map", { where: where(), rows: plan.values.rows, columns: plan.values.columns });
}

let plan = null; // of the map on show
let mapRoom = 0; // measured when it may have changed: measuring makes the browser lay out the page

function measureMap() {
  $("figure").style.flexBasis = labels().keys.length > 20 ? "100%" : ""; // a long one goes below the grid
  mapRoom = $("figure .scroll").clientWidth;
}

// The query and the key under a pointer.
function cellAt({ offsetX, offsetY }) {
  const [s, t] = [Math.floor((offsetX - plan.left) / plan.cell), Math.floor((offsetY - plan.top) / plan.cell)];
  return s >= 0 && s < plan.values.columns && t >= 0 && t < plan.values.rows ? { t, s } : null;
}

function drawTable() {
  const { queries, keys } = labels();
  const { values } = picture();
  const head = (textContent, scope) => make("th", { textContent, scope });
  $(".numbers table").replaceChildren(
    make("caption", { textContent: `${where()} · ${texts(`axes_${state.kind}`)}` }),
    make("tr", {}, make("td"), ...keys.map((key) => head(readable(key), "col"))),
    ...queries.map((query, t) => make("tr", {}, head(readable(query), "row"),
      ...Array.from(rowOf(values, t), (weight) => make("td", { textContent: percent(weight) })))));
}
