// A link that shows the same again: ?s=sentence&p=pair&l=layer&h=head&t=token, counted from 1.
// Beside them, where they are not the usual: k=kind, v=mean, maximum or rollout, f=forced ids,
// m=beam or sample, and of that c=temperature,top-k,top-p.

const CUTS = ["temperature", "top_k", "top_p"];

function address() {
  const link = new URL(location.origin + location.pathname);
  for (const [name, value] of Object.entries(onShow())) if (value !== "") link.searchParams.set(name, value);
  return link.href;
}

function onShow() { // "" is the usual
  const { asked, ids } = shown;
  const forced = asked.method === "sample" ? ids.slice(0, 79) : asked.options.prefix; // lots fall anew
  return {
    s: asked.text, p: asked.pair, t: state.query + 1,
    l: state.layer === "all" ? "all" : state.layer === SOME ? "" : state.layer + 1,
    h: state.head === SOME ? state.heads.map((place) => place.map((i) => i + 1).join(".")).join(",")
      : state.head === "all" ? "" : state.head + 1,
    k: state.kind === "cross" ? "" : state.kind,
    v: state.together === "mean" ? "" : state.together,
    m: asked.method === "greedy" ? "" : asked.method,
    c: asked.method === "sample" ? CUTS.map((name) => asked.options[name] ?? "").join(",") : "",
    f: forced.join(","),
  };
}

// What a link asks for; a value that is none is left out, and the usual stands in its place.
function wanted(search) {
  const link = new URLSearchParams(search);
  const place = (text) => (/^\d{1,3}$/.test(text ?? "") ? Number(text) - 1 : null);
  const one = (name, choices) => (choices.includes(link.get(name)) ? link.get(name) : null);
  const several = (link.get("h") ?? "").split(",").map((each) => each.split(".").map(place));
  const found = {
    text: link.get("s"), pair: link.get("p"), method: one("m", ["greedy", "beam", "sample"]),
    cuts: (link.get("c") ?? "").split(",").map((each) => (/^\d{1,5}(\.\d{1,3})?$/.test(each) ? Number(each) : null)),
    prefix: (link.get("f") ?? "").split(",").filter((id) => /^\d{1,7}$/.test(id)).map(Number),
    kind: one("k", ["cross", "decoder", "encoder"]), together: one("v", ["mean", "maximum", "rollout"]),
    layer: link.get("l") === "all" ? "all" : place(link.get("l")), head: place(link.get("h")),
    heads: several.every((each) => each.length === 2 && each.every((i) => i !== null)) ? several : null,
    query: place(link.get("t")),
  };
  const { cuts, ...others } = found; // which alone ask for nothing
  return Object.values(others).some((value) => value !== null && value.length !== 0) ? found : null;
}

function copyLink() {
  const field = $(".address");
  const told = $(".linked [role=status]");
  field.value = address();
  $(".linked").hidden = false;
  field.focus();
  field.select();
  told.textContent = say("translate.copy_yourself");
  // only where the browser trusts the page: https, or the visitor's own machine
  navigator.clipboard?.writeText(field.value).then(() => { told.textContent = say("translate.copied"); }, () => {});
}
