// One sentence through the moments of a run, or through two models. props.value, of lab.page.compare:
//   {pair, text, kind, run | two, looks: [{key, step, scores, text, ended, source, target,
//    log_probability, parameters, device, ms, layers, heads, attention: packed}]}
// A panel shows a look: what that model writes, and where it looks. A run has one panel and moves
// through its looks; `at` is the moment, between two whole numbers while one becomes the next.

const MEAN = "mean";
const MOMENT_MS = 1500; // a moment rests for a part of it, then becomes the next
const state = { mode: props.runs.length ? "run" : "two", at: 0, kind: "cross" };
let shown = null;
let weights = []; // of each look
let wanted = {}, asked = {}; // questions
let playing = null;
const panels = [panel(0), panel(1)];

const nameOf = Object.fromEntries(props.versions.map(({ key, name }) => [key, say(name)]));
const decimals = (number, most = 2) => decimal(number, { maximumFractionDigits: most });
const tenths = (number) => decimal(number, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const languageOf = (side) => ({ zh: "zh-CN" })[shown.pair.split("-")[side]] ?? shown.pair.split("-")[side];
const bar = sentenceBar($("form"), () => send());
const pair = () => (props.pairs.includes(bar.pair) ? bar.pair : props.pairs[0]);

// Asking

function send() {
  $(".pair").value = pair(); // another tab may have a pair that has nothing to compare
  choices();
  const about = state.mode === "run" ? { run: $(".run").value } : { two: [$("select.A").value, $("select.B").value] };
  wanted = { pair: pair(), text: bar.text, kind: state.kind, ...about };
  if (element.dataset.state !== "asking") ask(asked = wanted); // else the answer sees that it is late
}

// A sentence of languages that have nothing to compare stays in its tab: this one keeps its own.
function keepOwn() {
  const foreign = "pair" in lab.shared && !props.pairs.includes(lab.shared.pair);
  $(".kept").hidden = !foreign;
  if (!foreign) return;
  $(".text").value = wanted.text ?? props.example;
  $(".pair").value = pair();
}

// What there is for this pair: a choice that is still there stays.
function choices() {
  const of = (list) => list.filter((each) => each.pair === pair()).map(({ key, name }) => [key, say(name)]);
  const keep = (select, options, usual) =>
    fill(select, options, options.some(([key]) => key === select.value) ? select.value : usual);
  const runs = of(props.runs), versions = of(props.versions);
  keep($(".run"), runs, runs[0]?.[0]);
  keep($("select.A"), versions, versions[0]?.[0]);
  // beside the first model another one, or the end of a run
  keep($("select.B"), versions, versions.at(versions[1]?.[0].includes("@") ? 1 : -1)?.[0]);
  if (!runs.length) state.mode = "two";
  $("[data-mode=run]").disabled = !runs.length;
  for (const each of $$("[data-mode]")) each.ariaPressed = each.dataset.mode === state.mode;
  for (const mode of ["run", "two"]) for (const each of $$(`.of-${mode}`)) each.hidden = mode !== state.mode;
  fill($(".kind"), ["cross", "decoder", "encoder"].map((kind) => [kind, say(`compare.kinds.${kind}`)]), state.kind);
}

// What a look holds

function labels({ source, target }) {
  return {
    cross: [target, source], decoder: [target, [START, ...target.slice(0, -1)]], encoder: [source, source],
  }[shown.kind];
}

// Calls back with each weight of a head (or the mean of its layer) of the look at `at`.
function matrix(place, layer, head) {
  const { rows, columns } = shown.looks[place].attention;
  const { heads } = shown.looks[place];
  const size = rows * columns, next = Math.min(Math.ceil(state.at), shown.looks.length - 1);
  const share = shown.run ? state.at - Math.floor(state.at) : 0;
  const first = weights[shown.run ? Math.floor(state.at) : place], second = weights[shown.run ? next : place];
  const which = head === MEAN ? [...Array(heads).keys()] : [head];
  const mixed = new Float32Array(size);
  for (const h of which) {
    const from = (layer * heads + h) * size;
    for (let i = 0; i < size; i++) {
      mixed[i] += (first[from + i] * (1 - share) + second[from + i] * share) / which.length;
    }
  }
  return mixed;
}

// The head that points most clearly, in the last look: the marks at the end do not count.
function sharpest(place) {
  const { layers, heads, attention: { rows, columns } } = shown.looks[place];
  let best = { layer: layers - 1, head: MEAN, clear: 0 };
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const from = (layer * heads + head) * rows * columns;
      let clear = 0;
      for (let t = 0; t < rows - 1; t++) {
        const row = weights[place].subarray(from + t * columns, from + t * columns + columns);
        clear += Math.max(...row.subarray(shown.kind === "decoder" ? 1 : 0, shown.kind === "decoder" ? columns : columns - 1), 0);
      }
      if (clear > best.clear) best = { layer, head, clear };
    }
  }
  return best;
}

// The page

function draw(value) {
  stop();
  const again = shown?.kind === value.kind && shown?.run === value.run && shown?.pair === value.pair;
  shown = value;
  weights = value.looks.map(({ attention }) => unpack(attention));
  const last = value.looks.length - 1;
  state.at = value.run ? (again ? Math.min(Math.round(state.at), last) : last) : 0;
  $(".at").max = last;
  panels.forEach((each, i) => each.show(value.run ? (i ? null : last) : i, !again));
  if (value.run) drawMoments();
  if (value.run && !again && !still.matches) play();
  redraw();
  if (asked !== wanted) ask(asked = wanted);
}

function redraw() {
  for (const each of panels) each.draw();
  $(".sentence").ariaLive = playing ? "off" : "polite";
  $(".sentence").textContent = inWords();
  if (!shown.run) return;
  const at = Math.round(state.at), { step } = shown.looks[at];
  $(".at").value = at;
  $(".at").ariaValueText = $(".when").textContent = say("compare.when", { step, steps: shown.looks.at(-1).step });
  $(".play").dataset.symbol = playing ? "pause" : "play";
  $(".play span").textContent = say(playing ? "compare.pause" : "compare.play");
  $$(".moments tbody tr").forEach((row, i) => row.setAttribute("aria-current", i === at));
}

// Who looks where, in the words of the chosen token; of a run also where it began.
function inWords() {
  if (!shown.run) {
    return panels.map((each, i) => say("compare.said_two", { name: "AB"[i], ...each.most() })).join(lab.language === "en" ? " " : "");
  }
  const at = Math.round(state.at), now = panels[0].most();
  return say("compare.said", { step: shown.looks[at].step, ...now });
}

function drawMoments() {
  const best = Math.max(...shown.looks.map(({ scores }) => scores.bleu ?? 0), 1e-9);
  const number = (text) => make("td", { textContent: text });
  $(".moments").replaceChildren(
    make("caption", { textContent: say("compare.moments") }),
    make("thead", {}, make("tr", {}, ...["step", "loss", "bleu", "chrf", "surprise", "speed", "writes"]
      .map((word) => make("th", { scope: "col", textContent: say(`compare.column.${word}`) })))),
    make("tbody", {}, ...shown.looks.map((look, i) => {
      const share = make("i", { className: "share" });
      share.style.width = `${100 * (look.scores.bleu ?? 0) / best}%`;
      return make("tr", {},
        make("th", { scope: "row" }, make("button", { type: "button", className: "moment", textContent: decimals(look.step), dataset: { at: i } })),
        number(decimals(look.scores.validation_loss)), make("td", {}, tenths(look.scores.bleu), share),
        number(tenths(look.scores.chrf)), number(tenths(look.log_probability)), number(decimals(look.ms)),
        make("td", { className: "writes", lang: languageOf(1), textContent: look.text + (look.ended ? "" : " …") }));
    })));
}

// Time

function play() {
  const last = shown.looks.length - 1;
  const from = Math.round(state.at) === last ? 0 : Math.round(state.at);
  const start = performance.now();
  state.at = from;
  const frame = (now) => {
    const passed = from + Math.max(0, now - start) / MOMENT_MS; // a frame may have begun before
    const whole = Math.floor(passed);
    const share = Math.max(0, (passed - whole - 0.5) * 2); // rests, then moves
    const place = Math.min(last, whole + (still.matches ? 0 : share * share * (3 - 2 * share)));
    if (place >= last) stop();
    else playing = requestAnimationFrame(frame);
    if (place !== state.at || !playing) {
      state.at = place;
      redraw();
    }
  };
  playing = requestAnimationFrame(frame);
}

function stop() {
  cancelAnimationFrame(playing);
  playing = null;
}

function go(at) {
  stop();
  state.at = Math.min(Math.max(at, 0), shown.looks.length - 1);
  redraw();
}

// What the visitor does

element.addEventListener("click", ({ target }) => {
  const clicked = target.closest("button");
  if (!clicked) return;
  if (clicked.dataset.mode) {
    state.mode = clicked.dataset.mode;
    send();
  }
  if (!shown) return;
  if (clicked.matches(".play")) {
    if (playing) stop();
    else play();
    redraw();
  }
  if (clicked.matches(".back")) go(Math.ceil(state.at) - 1);
  if (clicked.matches(".forward")) go(Math.floor(state.at) + 1);
  if (clicked.matches(".moment")) go(Number(clicked.dataset.at));
});
element.addEventListener("input", ({ target }) => target.matches(".at") && go(Number(target.value)));
element.addEventListener("change", ({ target }) => {
  if (!target.matches(".choices select")) return;
  if (target.matches(".kind")) state.kind = target.value;
  send();
});
window.addEventListener("resize", () => shown && redraw());
new MutationObserver(() => shown && redraw()).observe(document.body, { attributeFilter: ["class"] });

if (props.pairs.length) {
  keepOwn();
  window.addEventListener("lab:shared", keepOwn); // after the form has taken it over
  choices();
  answered(draw);
  whenSeen(() => {
    if (bar.text && (bar.text !== wanted.text || pair() !== wanted.pair)) send();
  });
} else { // one message
  answered(draw);
  $("form").hidden = $(".choices").hidden = true;
}
