// The page's title, the switch to the other language (whose name it bears), a way through the tabs
// for who is new here, and the open tab: it stands in the address as ?tab=, and Back leads to the
// one before.

const other = lab.language === "en" ? "zh-CN" : "en";
$(".other").lang = other;
$(".other").addEventListener("click", () => lab.speak(other));

// "New here? Start with {translate}, …": each name opens its tab. Once put away it stays away.
const PATH = "lab.path";
const remembered = () => { try { return localStorage.getItem(PATH); } catch { return null; } };
const path = $(".path");
path.append(...say("page.path").split(/\{(\w+)\}/).map((piece, i) => {
  if (i % 2 === 0) return piece;
  const link = Object.assign(button("to", say(`${piece}.tab`)), { value: piece });
  link.addEventListener("click", () => tabButton(piece)?.click());
  return link;
}), " ", button("away", say("page.path_away")));
path.hidden = Boolean(remembered());
path.querySelector(".away").addEventListener("click", () => {
  path.hidden = true;
  $(".other").focus(); // the focus was on what is gone
  try { localStorage.setItem(PATH, "away"); } catch { /* it comes back with the next visit */ }
});

const FIRST = "translate";
const wantedTab = () => new URLSearchParams(location.search).get("tab") ?? FIRST;
const openTab = () => document.querySelector("[role=tab][aria-selected=true]")?.dataset.tabId;

// On a phone some stand in a menu, where Gradio gives them their text alone.
function tabButton(name) {
  const title = say(`${name.replaceAll("-", "_")}.tab`);
  return [...document.querySelectorAll("[role=tab], .overflow-dropdown button")]
    .find((each) => each.dataset.tabId === name || each.textContent.trim() === title);
}

let restored = false;
new MutationObserver(() => {
  const open = openTab();
  if (!open) return; // the tabs are not there yet
  const wanted = wantedTab();
  if (!restored) {
    restored = true;
    if (open !== wanted) tabButton(wanted)?.click();
  } else if (open !== wanted) lab.remember({ tab: open === FIRST ? "" : open }, "pushState");
}).observe(document.body, { subtree: true, childList: true, attributeFilter: ["aria-selected"] });

window.addEventListener("popstate", () => {
  const wanted = wantedTab();
  lab.remember({ tab: wanted === FIRST ? "" : wanted });
  if (openTab() !== wanted) tabButton(wanted)?.click();
});
