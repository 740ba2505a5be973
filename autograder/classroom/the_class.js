// The teacher's tab: the queue, downloads, and the report, which is a page of its own without scripts.
// Whoever is no teacher gets nothing to show.

const at = (path) => {
  const address = new URL(`course/${path}`, document.baseURI);
  address.searchParams.set("lang", lab.language);
  return address;
};
const clock = (time) => new Date(time).toLocaleString(lab.language, { dateStyle: "medium", timeStyle: "short" });
const row = (tag, texts) => make("tr", {}, ...texts.map((textContent) => make(tag, { textContent })));

function table(queue) {
  if (!queue.length) return make("p", { textContent: say("the_class.nobody") });
  const head = row("th", [say("the_class.learner"), say("the_class.unit"), say("the_class.handed_in"), ""]);
  const rows = queue.map(({ name, id, unit, time, late }) =>
    row("td", [name === id ? id : `${name} (${id})`, unit, clock(time), late && say("the_class.late", { late })]));
  return make("table", {}, head, ...rows);
}

async function load(report) {
  const answer = await fetch(at("class"));
  if (!answer.ok) return;
  const { queue, units, formats, handed_in, learners } = await answer.json();
  $(".sum").textContent = say("the_class.sum", { learners, handed_in, waiting: queue.length });
  $(".queue").replaceChildren(table(queue));
  const [unit, format] = [$("[name=unit]"), $("[name=format]")];
  fill(unit, [["", say("the_class.all")], ...units.map((name) => [name, name])], unit.value);
  fill(format, formats.map((name) => [name, name]), format.value);
  $(".export").hidden = !units.length;
  if (report) $("iframe").src = at(`report${$(".similar").checked ? "?similar=yes" : ""}`);
  element.dataset.loaded = "yes";
}

$("iframe").title = say("the_class.frame");
$(".again").addEventListener("click", () => load(true));
$(".similar").addEventListener("change", () => load(true));
setInterval(() => element.offsetParent && !document.hidden && load(false), 15000);
load(true);
