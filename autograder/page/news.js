// What Your code and Progress share: a unit's title, as "The whole model" of "09-transformer"; and
// whether a notebook was saved, whether a check is done: asked while the drawing is in view.

const unitTitle = (name) => say(`units.${name.slice(3).replaceAll("-", "_")}`);

async function news(part = "") {
  const address = new URL("learner/news", document.baseURI);
  address.searchParams.set("lang", lab.language);
  if (part) address.searchParams.set("part", part);
  const answer = await fetch(address, { cache: "no-store" });
  return answer.ok ? answer.json() : null;
}

const inView = () => element.offsetParent !== null && !document.hidden;

// Calls `look` again and again; `hurry()` says whether a check runs, which is worth looking more often.
function follow(look, hurry) {
  const again = async () => {
    try {
      if (inView()) await look();
    } catch { /* the page was stopped: there is nothing to follow */ }
    if (element.isConnected) setTimeout(again, hurry() ? 400 : 1000 * props.pause);
  };
  setTimeout(again, 1000 * props.pause);
}
