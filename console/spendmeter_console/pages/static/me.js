// What is left of a key: it goes into a header of one request, and into nothing else.
"use strict";
(() => {
  const form = document.getElementById("me"), answer = document.getElementById("answer"), key = document.getElementById("key");
  const text = (tag, value, name) => { const one = document.createElement(tag); one.textContent = value; if (name) one.className = name; return one; };
  const STATES = { exceeded: "over", warning: "warning", ok: "ok" };
  function table(accounts) {
    const found = document.createElement("table"), head = found.createTHead().insertRow(), body = found.createTBody();
    for (const [label, side] of [["Budget", ""], ["Left", "r"], ["Limit", "r"], ["State", ""], ["Resets", ""]]) {
      const one = text("th", label, side);
      one.scope = "col";
      head.append(one);
    }
    for (const one of accounts) {
      const row = body.insertRow();
      row.append(text("td", one.budget), text("td", "$" + one.remaining_usd, "r"), text("td", "$" + one.limit_usd, "r"));
      const state = document.createElement("td");
      state.append(text("span", one.state === "exceeded" && one.refuses ? "refusing" : STATES[one.state], "badge " + one.state));
      row.append(state, text("td", one.resets_at ? new Date(one.resets_at).toLocaleString() : "never"));
    }
    return found;
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = await fetch(form.dataset.endpoint, { headers: { authorization: "Bearer " + key.value }, credentials: "omit" }).catch(() => null);
    if (!said) { answer.replaceChildren(text("p", "The server does not answer; try again.", "notice")); return; }
    const found = await said.json();
    if (!said.ok) { answer.replaceChildren(text("p", found.error + ".", "notice")); return; }
    const refusing = found.accounts.find((one) => one.state === "exceeded" && one.refuses);
    const least = found.accounts.filter((one) => one.refuses).sort((a, b) => Number(a.remaining_usd) - Number(b.remaining_usd))[0];
    answer.replaceChildren(
      text("h2", found.key_alias ? "Key " + found.key_alias : "This key"),
      text("p", refusing ? `Requests are refused by ${refusing.budget} until it resets.` : least ? `$${least.remaining_usd} left before ${least.budget} refuses.` : "No budget refuses this key.", "sentence"),
      found.accounts.length ? table(found.accounts) : text("p", "No budget counts what this key spends.", "empty"),
    );
  });
})();
