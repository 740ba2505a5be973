// The page's title, the switch to the other language (whose name it bears), and the open tab: it
// stands in the address as ?tab=, and Back leads to the one before.

const other = lab.language === "en" ? "zh-CN" : "en";
$(".other").lang = other;
$(".other").addEventListener("click", () => lab.speak(other));

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
