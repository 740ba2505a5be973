// The one object that all drawings of the page share. The language is settled before Gradio asks.
window.lab = (() => {
  const kept = () => { try { return localStorage.getItem("lab.language"); } catch { return null; } };
  const wanted = new URLSearchParams(location.search).get("lang") ?? kept() ?? navigator.language ?? "en";
  const language = /^zh\b/i.test(wanted) ? "zh-CN" : "en";
  Object.defineProperty(navigator, "language", { get: () => language });
  const shown = {};
  return {
    language,
    remember(values, how = "replaceState") { // in the address, for reload and Back: "" is the usual
      const address = new URL(location);
      for (const [name, value] of Object.entries(Object.assign(shown, values))) {
        if (value === "") address.searchParams.delete(name);
        else address.searchParams.set(name, value);
      }
      try { history[how](history.state, "", address); } catch { /* too often, or within a frame */ }
    },
    speak(other) { // from now on, and when the visitor comes back
      try { localStorage.setItem("lab.language", other); } catch { /* private windows keep nothing */ }
      const address = new URL(location);
      address.searchParams.set("lang", other);
      location.assign(address);
    },
  };
})();
