// Keys, drafts that survive a reload, and sending without losing a rating when the server is down.
"use strict";

const form = document.getElementById("rating");
const message = document.getElementById("message");
const draft = `draft ${location.pathname}`;

function choices() {
  return [...form.querySelectorAll("fieldset.choices")].map((set) => [...set.querySelectorAll("input")]);
}

function choose(input) {
  input.checked = true;
  input.focus();
  saveDraft();
}

function digit(number) {
  const sets = choices();
  const focused = sets.findIndex((inputs) => inputs.includes(document.activeElement));
  const current = focused >= 0 ? focused : Math.max(sets.findIndex((inputs) => !inputs.some((one) => one.checked)), 0);
  const input = sets[current][number - 1];
  if (!input) return;
  choose(input);
  const next = sets[current + 1];
  if (next) (next.find((one) => one.checked) || next[0]).focus();
}

function move(step) {
  const sets = choices();
  const focused = sets.findIndex((inputs) => inputs.includes(document.activeElement));
  const inputs = sets[Math.min(Math.max(focused < 0 ? 0 : focused + step, 0), sets.length - 1)];
  (inputs.find((one) => one.checked) || inputs[0]).focus();
}

function saveDraft() {
  sessionStorage.setItem(draft, new URLSearchParams(new FormData(form)));
}

function restoreDraft() {
  const saved = new URLSearchParams(sessionStorage.getItem(draft) || "");
  for (const [name, value] of saved) {
    if (name === "token" || name === "marks") continue;
    for (const field of form.querySelectorAll(`[name="${name}"]`)) {
      if (field.type === "radio") field.checked = field.value === value;
      else field.value = value;
    }
  }
}

async function send(event) {
  event.preventDefault();
  const sent = event.target;
  const body = new URLSearchParams(new FormData(sent, event.submitter));
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  try {
    const response = await fetch(sent.getAttribute("action"), { method: "POST", body });
    if (response.ok) {
      sessionStorage.removeItem(draft);
      location.assign(response.url);
      return;
    }
    show(response.status < 500 ? await response.text() : form.dataset.notSaved);
  } catch {
    show(form.dataset.notSaved);
  }
  for (const button of document.querySelectorAll("button")) button.disabled = false;
}

function show(text) {
  message.textContent = text;
  message.hidden = false;
  message.scrollIntoView({ block: "center" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("textarea, input:not([type=radio])");
  if (typing) {
    if (event.code === "Escape") event.target.blur();
    return;
  }
  const number = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
  const arrows = { ArrowLeft: 1, ArrowRight: 2, ArrowUp: -1, ArrowDown: 1 };
  const compares = form && choices().length === 1;
  if (form && number) digit(Number(number[1]));
  else if (compares && /^Arrow(Left|Right)$/.test(event.code)) digit(arrows[event.code]);
  else if (form && !compares && /^Arrow(Up|Down)$/.test(event.code)) move(arrows[event.code]);
  else {
    const code = event.code === "NumpadEnter" ? "Enter" : event.code;
    const target = document.querySelector(`[data-key="${code}"]`);
    if (!target || (code === "Enter" && event.target.matches("a, button, summary"))) return;
    if (target.matches("textarea")) target.focus();
    else target.click();
  }
  event.preventDefault();
});

if (form) {
  restoreDraft();
  form.addEventListener("input", saveDraft);
  for (const one of document.querySelectorAll("form")) one.addEventListener("submit", send);
}
