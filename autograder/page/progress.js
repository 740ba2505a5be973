// Units and parts. props.value, from autograder.page.progress:
//   {units: [{name, notebook, problems, points, of, rows: [{name, state, points, of, attempts, …}]}],
//    points, of, passed, rows, begun, next, version, status: {running, part, done, total, changes}, counts}

let shown = null;
let ran = false; // a check runs, or ran until a moment ago
let cancelled = false;

if (props.live) {
  whenSeen(() => ask({}));
  follow(look, () => ran);
}

async function look() {
  const found = await news();
  if (!found || !shown || element.ariaBusy === "true") return;
  drawRunning(found);
  if (found.version !== shown.version || found.changes !== shown.status.changes) ask({});
}

answered((value) => {
  shown = value;
  const { units, points, of, passed, rows } = value;
  $(".sum").textContent = say("progress.sum", { points, of, passed, rows });
  Object.assign($(".whole"), { max: of, value: points });
  $(".counts").textContent = say(value.counts ? "progress.counts" : "progress.uncounted");
  drawNext();
  const focused = document.activeElement?.value;
  $$("tbody").forEach((each) => each.remove());
  $("table").append(...units.map(drawUnit));
  if (focused) $(`tbody button[value="${CSS.escape(focused)}"]`)?.focus();
  drawRunning(value.status);
});

function drawNext() {
  const { units, next, begun } = shown;
  const unit = units.find(({ rows }) => rows.some(({ name }) => name === next));
  const row = unit?.rows.find(({ name }) => name === next);
  $(".nothing").hidden = begun || !row;
  $(".nothing").textContent = row && !begun ? say("progress.nothing", { minutes: row.minutes }) : "";
  $(".what").textContent = row ? say("progress.what", { name: nameOf(row), step: stepOf(row, unit) }) : say("progress.done");
  $(".command").hidden = !row;
  $(".command code").textContent = unit ? `lab notebook ${unit.name}` : "";
}

const nameOf = ({ name, quiz }) => (quiz ? `${say("progress.quiz")} ${name.slice(0, 2)}` : name);

function stepOf({ state, quiz, minutes, answered, headline, message, where }, { notebook }) {
  const of = quiz && state !== "open" && state !== "passed" ? `quiz_${state}` : state;
  const words = headline && state !== "forbidden" ? `${headline}${lab.language === "en" ? "." : "。"}` : [message, where].filter(Boolean).join(" → ");
  const known = { error: "written", cancelled: "written" }[of] ?? of;
  return say(`progress.to.${known}`, { notebook, minutes, answered, message: words });
}

function drawUnit(unit) {
  const { name, points, of, rows, problems } = unit;
  const title = unitTitle(name);
  const head = make("tr", { className: "unit" },
    make("th", { scope: "rowgroup", textContent: `${name.slice(0, 2)} ${title}` }),
    make("td"), make("td", { textContent: say("progress.of", { points, of }) }), make("td"),
    make("td", { className: "step" }, make("progress", { max: of, value: points, ariaLabel: title })),
    make("td", { className: "action" }, ...checkButton(name, say("progress.check_unit", { unit: title }), rows.some(isWritten))));
  const body = make("tbody", {}, head, ...rows.map((row) => drawRow(row, unit)));
  if (problems.length) body.append(make("tr", {}, make("td", { colSpan: 6, className: "step" }, more(say("progress.problems", { notebook: unit.notebook }), problems.map((each) => [each])))));
  return body;
}

const isWritten = ({ state }) => !["stub", "missing", "open"].includes(state);

function drawRow(row, unit) {
  const { name, quiz, state, points, of, attempts, checks = [], headline, message, where, hint } = row;
  const chip = make("span", { className: `chip ${state}`, textContent: say(`your_code.state.${state}`) });
  const step = make("td", { className: "step", textContent: stepOf(row, unit) });
  if (checks.length && state !== "passed") {
    const lines = checks.map(([sentence, passed]) => [`${passed ? "✓" : "✗"} ${sentence}`, passed]);
    step.append(more(say("progress.details"), [...(headline ? [[message], [where], [hint]] : []).filter(([text]) => text), ...lines]));
  }
  return make("tr", {},
    make("th", { scope: "row" }, quiz ? nameOf(row) : make("code", { textContent: name })),
    make("td", {}, chip), make("td", { textContent: say("progress.of", { points, of }) }),
    make("td", { className: "attempts", textContent: attempts || "", dataset: { label: say("progress.attempts") } }), step,
    make("td", { className: "action" }, ...checkButton(name, say("progress.check_part", { part: nameOf(row) }), isWritten(row))));
}

function more(summary, lines) {
  return make("details", {}, make("summary", { textContent: summary }),
    ...lines.map(([text]) => make("p", { className: "small", textContent: text })));
}

function checkButton(value, label, can) { // none where there is nothing to check
  return can ? [Object.assign(button("check", say("progress.check")), { value, ariaLabel: label })] : [];
}

// What runs: how far it is, and how to end it

function drawRunning({ running, part, done, total }) {
  const bar = $("progress.checks");
  bar.hidden = $(".cancel").hidden = !running;
  Object.assign(bar, { max: Math.max(total, 1), value: done });
  $$(".actions button[value]").forEach((each) => { each.disabled = running; });
  if (running) $(".told").textContent = part ? say("progress.running", { part, done, total }) : say("progress.waiting", { done, total });
  else if (ran) $(".told").textContent = cancelled ? say("progress.cancelled") : say("progress.finished", { n: done });
  ran = running;
}

element.addEventListener("click", ({ target }) => {
  if (!(target instanceof HTMLButtonElement)) return;
  cancelled = target.matches(".cancel");
  if (cancelled) ask({ cancel: true });
  else if (target.value) {
    const any = shown.units.some(({ rows }) => rows.some(isWritten));
    if (any) ask({ check: target.value });
    else $(".told").textContent = say("progress.nothing_to_check");
  }
});
