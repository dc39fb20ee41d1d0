// Keeps a page fresh. The server says that something has changed; the page asks for itself again and
// replaces the parts that are marked data-live. Nothing is fetched while nothing changes.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const shown = document.documentElement.dataset.zone;
  if (zone !== shown && !sessionStorage.getItem("zone-tried")) {
    sessionStorage.setItem("zone-tried", "1"); // a zone that the server does not know: once, not for ever
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `spendmeter_zone=${encodeURIComponent(zone).replaceAll("%2F", "/")}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    location.reload();
    return;
  }
  const PAUSE_MS = 300, AFTERWARDS_MS = 1200;
  const state = document.getElementById("live-state");
  const follow = document.body.dataset.follow;
  let source = null, busy = false, again = false, afterwards = 0;

  function replace(old, fresh) {
    if (old.innerHTML === fresh.innerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    const before = [...old.querySelectorAll(".amount")].map((one) => one.textContent);
    const href = focused && focused.getAttribute("href");
    old.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    old.querySelectorAll("details").forEach((one, n) => { one.open = open[n] || false; });
    old.querySelectorAll(".amount").forEach((one, n) => { if (before[n] !== one.textContent) one.classList.add("changed"); });
    if (href) [...old.querySelectorAll("a")].find((one) => one.getAttribute("href") === href)?.focus();
  }
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const found = fresh.getElementById(old.id);
          if (found) replace(old, found);
        }
      } else if (answer.type === "opaqueredirect") location.reload();
    } catch { /* the stream says when the server is back */ }
    setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, PAUSE_MS);
  }
  function update() {
    document.dispatchEvent(new CustomEvent("spend-changed"));
    if (document.querySelector("[data-live]")) refresh();
  }
  function changed() {
    update();
    // History has a record a moment later than the signal that it led to, and an order of accounts stands
    // for half a second.
    clearTimeout(afterwards);
    afterwards = setTimeout(update, AFTERWARDS_MS);
  }
  function begin() {
    if (follow === undefined || source) return;
    source = new EventSource("/live" + (follow ? "?budget=" + encodeURIComponent(follow) : ""));
    let lost = false;
    source.addEventListener("begun", () => {
      state.textContent = "Live.";
      document.body.dataset.live = "yes";
      if (lost) changed();
      lost = false;
    });
    source.addEventListener("changed", changed);
    source.onerror = () => { lost = true; state.textContent = "Not live: trying again …"; delete document.body.dataset.live; };
  }
  // A browser gives a site six connections: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else if (follow !== undefined && !source) { begin(); changed(); }
  });
  begin();
})();
