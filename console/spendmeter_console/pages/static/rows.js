// The list of accounts: as many rows in the page as are seen, whatever their number.
"use strict";
(() => {
  const box = document.getElementById("rows"), space = document.getElementById("space"), form = document.getElementById("filters");
  if (!box) { form?.addEventListener("change", () => form.requestSubmit()); return; }
  const narrow = matchMedia("(max-width: 760px)");
  const count = document.getElementById("count"), none = document.getElementById("none");
  const SPARE = 20, TYPING_MS = 200;
  let total = Number(box.dataset.total), asked = 0, typing = 0;
  const height = () => (narrow.matches ? 62 : 36);
  const text = (tag, name, value) => { const one = document.createElement(tag); if (name) one.className = name; one.textContent = value; return one; };
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (tag, attributes) => { const one = document.createElementNS(SVG, tag); for (const [k, v] of Object.entries(attributes)) one.setAttribute(k, v); return one; };
  const PATHS = { exceeded: "M2 2l6 6M8 2l-6 6", warning: "M5 1v5M5 8v1", ok: "M1.5 5.5 4 8l4.5-6" };

  function named(label) {
    const one = document.createElement("bdi");
    const hash = /^[0-9a-f]{40,}$/.test(label);
    one.textContent = label === "" ? "(none)" : visible(hash ? label.slice(0, 8) + "…" : label);
    return one;
  }
  // As visible() of the server: what would act, or hide, is written out.
  function visible(label) {
    return label.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}]/gu, (c) => {
      const code = c.codePointAt(0);
      return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : code < 65536 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
    });
  }
  function badge(row) {
    const state = row.paused ? "paused" : row.state;
    const one = text("span", "badge " + state, "");
    if (!row.paused) { const icon = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }); icon.append(svg("path", { d: PATHS[row.state] })); one.append(icon); }
    one.append(row.paused ? "paused" : row.state === "exceeded" ? (row.refuses ? "refusing" : "over") : row.state);
    return one;
  }
  function cell(...children) { const one = document.createElement("span"); one.setAttribute("role", "cell"); one.append(...children); return one; }
  function money([shown, exact]) {
    const one = document.createElement("data");
    one.value = exact;
    one.textContent = shown;
    const held = cell(one);
    held.className = "r";
    return held;
  }
  function draw(row, index) {
    const line = text("div", "row at", "");
    line.setAttribute("role", "row");
    line.setAttribute("aria-rowindex", index + 2);
    line.style.transform = `translateY(${index * height()}px)`;
    const link = document.createElement("a");
    link.href = row.href;
    link.append(named(row.budget));
    const parts = row.parts.map(([dimension, label, value]) => {
      const part = text("span", "part", "");
      part.append(text("span", "dim", dimension), " ", named(label));
      if (value) part.title = visible(value);
      return part;
    });
    const bar = svg("svg", { class: "bar " + row.state, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
    bar.append(svg("rect", { class: "track", width: 100, height: 8 }), svg("rect", { class: "fill", width: Math.min(100, Math.max(0, row.share * 100)), height: 8 }));
    const share = row.share < 99.99 ? Math.floor(Number((row.share * 100).toFixed(6))).toLocaleString("en") + " %" : "> 9,999 %";
    const resets = cell(row.resets);
    if (row.resets_at) resets.title = new Date(row.resets_at).toLocaleString();
    line.append(cell(link), cell(...(parts.length ? parts : ["everything"])), money(row.spent), money(row.limit), money(row.left),
      cell(badge(row), " " + share, bar), cell(row.out || "–"), resets);
    return line;
  }
  async function show() {
    const first = Math.max(0, Math.floor(box.scrollTop / height()) - SPARE);
    const number = Math.min(200, Math.ceil(box.clientHeight / height()) + 2 * SPARE);
    const mine = ++asked;
    const query = new URLSearchParams(new FormData(form));
    query.set("first", first);
    query.set("count", number);
    const answer = await fetch("/budgets/rows?" + query).catch(() => null);
    if (!answer?.ok || mine !== asked) return;
    const found = await answer.json();
    total = found.total;
    const focused = box.contains(document.activeElement) && document.activeElement !== box ? document.activeElement.getAttribute("href") : null;
    space.style.height = `${total * height()}px`;
    space.replaceChildren(...found.rows.map((row, n) => draw(row, first + n)));
    if (focused) [...space.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus({ preventScroll: true });
    box.setAttribute("aria-rowcount", total + 1);
    box.dataset.first = first;
    count.textContent = total.toLocaleString("en");
    none.hidden = total > 0;
  }
  let frame = 0;
  box.addEventListener("scroll", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(show); });
  function filtered() {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    history.replaceState(null, "", query.size ? "?" + query : location.pathname);
    box.scrollTop = 0;
    show();
  }
  form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filtered, TYPING_MS); });
  form.addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
  document.addEventListener("spend-changed", show);
  narrow.addEventListener("change", show);
  show();
})();
