// Hands files in and shows what came of them, from addresses below course/ (see page.py).
// Everything that is shown is set as text: nothing in anybody's work is read as markup.

const at = (path) => {
  const address = new URL(`course/${path}`, document.baseURI);
  address.searchParams.set("lang", lab.language);
  return address;
};
let shown = null; // what course/mine said last
let pause = 1500; // ms until the queue is asked again

// The login knows the language by its address.
for (const [each, name] of [[$("a.button"), "href"], [$(".leaving"), "action"]]) each[name] += `?lang=${lab.language}`;

async function call(path, options) {
  const answer = await fetch(at(path), options);
  if (answer.status === 401) location.reload(); // the session is over: the login comes
  return answer.json();
}

const text = (tag, className, textContent, dataset = {}) => make(tag, { className, textContent, dataset });

// Handing in

$(".sending").addEventListener("submit", async (event) => {
  event.preventDefault();
  const files = [...$("#notebooks").files];
  $(".go").disabled = true;
  $(".news").replaceChildren();
  for (const [i, file] of files.entries()) {
    const line = text("p", "said wait", say("hand_in.sending", { number: i + 1, count: files.length, file: file.name }));
    $(".news").append(line);
    const { receipt, fault, said } = await send(file);
    line.className = receipt ? "said receipt" : "said bad";
    line.textContent = receipt ?? refusal(file.name, said ? say(said) : fault);
  }
  $(".go").disabled = false;
  $(".sending").reset();
  pause = 1500;
  await load();
});

const refusal = (file, fault) =>
  say("hand_in.refused", { fault: fault.startsWith(file) ? fault : say("hand_in.fault", { file, fault }) });

async function send(file) {
  if (file.size > shown.limit) return { fault: say("hand_in.large", { size: shown.limit / 1e6 }) };
  const query = new URLSearchParams({ name: file.name, saved: file.lastModified });
  const headers = { "Content-Type": "application/x-ipynb+json" };
  try {
    return await call(`hand-in?${query}`, { method: "POST", body: file, headers });
  } catch {
    return { fault: say("hand_in.broken") };
  }
}

// What came of it

async function load() {
  shown = await call("mine");
  $(".who").textContent = say(shown.name === shown.id ? "hand_in.who" : "hand_in.who_id", shown);
  $(".open").textContent = shown.open.length
    ? say("hand_in.open", { units: shown.open.map(open).join("; ") })
    : say("hand_in.nothing_open");
  const unfolded = new Set($$("details[open]").map((each) => each.dataset.key));
  $(".units").replaceChildren(...shown.units.map(unit));
  for (const each of $$("details")) each.open = unfolded.has(each.dataset.key);
}

const clock = (time) => new Date(time).toLocaleString(lab.language, { dateStyle: "medium", timeStyle: "short" });
const open = ({ name, due }) => (due ? say("hand_in.due", { unit: name, time: clock(due) }) : name);
const points = ({ points, max_points }) => say("hand_in.points", { points, most: max_points });

function unit(value) {
  const { name, title, notebook, time, late, earlier, state } = value;
  const about = say(late ? "hand_in.about_late" : "hand_in.about", { notebook, time: clock(time), late });
  const card = make("article", { className: "unit", dataset: { unit: name, state } },
    text("h2", "", `${name}  ${title}`), text("p", "small", about), standing(value));
  card.append(...value.parts.map(part));
  const receipts = make("details", { dataset: { key: `${name} receipts` } },
    text("summary", "", say("hand_in.receipts", { n: earlier.length + 1 })));
  for (const each of [value, ...earlier]) {
    const href = at(`notebook?${new URLSearchParams({ id: `${name}/${each.number}` })}`);
    const came = each.points === null ? say(`hand_in.state.${each.state}`) : points(each);
    const file = make("a", { href, download: "", textContent: say("hand_in.file") });
    receipts.append(text("pre", "", each.receipt), make("p", { className: "small" }, `${came} · `, file));
  }
  card.append(receipts);
  return card;
}

const turn = (before) => (before ? say("hand_in.before", { n: before }) : say("hand_in.now"));

function standing(value) {
  const { state, reason } = value;
  if (state === "waiting") return text("p", "said wait place", turn(value.before), { place: `${value.name}/${value.number}` });
  if (state !== "graded") return text("p", "said bad", say(`hand_in.standing.${state}`, { reason }));
  const bar = make("i");
  bar.style.width = `${value.max_points ? Math.min(100, (100 * value.points) / value.max_points) : 0}%`;
  const box = make("div", {}, text("p", "points", points(value)), make("div", { className: "meter" }, bar));
  if (reason) box.append(text("p", "small message", say("hand_in.odd", { reason })));
  return box;
}

function part(value) {
  const points = { part: value.name, points: value.points, most: value.max_points };
  const title = say(value.state === "not started" ? "hand_in.part_not_started" : "hand_in.part", points);
  const box = make("section", { dataset: { part: value.name } }, text("h3", "", title));
  if (value.message) box.append(text("p", "message", told(value.message)));
  const checks = value.checks.map(({ said, passed, points, max_points }) => make("li", {},
    make("b", { textContent: passed ? "✓" : "✗", role: "img", ariaLabel: say(passed ? "hand_in.met" : "hand_in.not_met") }),
    say("hand_in.check", { said: told(said), points, most: max_points })));
  box.append(make("ul", {}, ...checks));
  return box;
}

// A message of the page, or a sentence of the lesson.
const told = (said) => (typeof said === "object" ? say(said) : said);

// The queue, asked often while something of one's own is in it, and not otherwise

async function watchQueue() {
  try {
    if (shown?.units.some((each) => each.state === "waiting") && !document.hidden) {
      const { places } = await call("changes");
      const waiting = $$(".place");
      pause = Math.min(pause * 1.2, 6000);
      if (waiting.some((each) => !(each.dataset.place in places))) {
        pause = 1500;
        await load();
      } else {
        for (const each of waiting) each.textContent = turn(places[each.dataset.place]);
      }
    }
  } catch {
    pause = 6000; // the server is away: it comes back with everything that was handed in
  }
  setTimeout(watchQueue, pause);
}

load().catch(() => $(".open").replaceChildren(say("hand_in.away")));
setTimeout(watchQueue, pause);
