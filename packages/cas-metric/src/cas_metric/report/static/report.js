"use strict";

// -- theme --------------------------------------------------------------------------------------
const root = document.documentElement;

function shownTheme() {
  if (root.dataset.theme) return root.dataset.theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

document.querySelector("button.theme").addEventListener("click", () => {
  root.dataset.theme = shownTheme() === "dark" ? "light" : "dark";
  try { localStorage.setItem("cas-report-theme", root.dataset.theme); } catch { /* not kept */ }
});

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

// -- sorting ------------------------------------------------------------------------------------
// Numbers compare as numbers, text as text; what is missing goes last in either direction.
function compare(left, right, direction) {
  if (left === "" || right === "") return (left === "") - (right === "");
  const [a, b] = [Number(left), Number(right)];
  const numeric = !Number.isNaN(a) && !Number.isNaN(b);
  return direction * (numeric ? a - b : left.localeCompare(right, "en", { numeric: true }));
}

function sortTable(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.v;
  const rows = [...body.rows];
  rows.sort((a, b) => compare(key(a), key(b), ascending ? 1 : -1));
  body.append(...rows);
}

for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => sortTable(button.closest("th")));
}

// -- CSV ----------------------------------------------------------------------------------------
// A leading =, +, - or @ would be run as a formula by a spreadsheet; numbers are left alone.
function csvField(text) {
  const value = /^[=+\-@\t]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

const csv = (lines) => lines.map((line) => line.map(csvField).join(",")).join("\n") + "\n";

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Could not copy";
    area.remove();
  }
  setTimeout(() => { button.textContent = label; }, 1600);
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => {
    const table = button.parentNode.querySelector("table");
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    copy(csv([heads, ...rows.map((row) => [...row.cells].map((c) => c.dataset.v))]), button);
  });
}

// -- tabs ---------------------------------------------------------------------------------------
for (const list of document.querySelectorAll("[role=tablist]")) {
  const tabs = [...list.children];
  const choose = (chosen) => {
    for (const tab of tabs) {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).classList.toggle("off", !on);
    }
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) choose(tab);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
  choose(tabs[0]);
}

// -- curves -------------------------------------------------------------------------------------
for (const entry of document.querySelectorAll(".legend li")) {
  const figure = entry.closest("figure");
  const mark = (on) => {
    figure.classList.toggle("dim", on);
    figure.querySelector(`path[data-curve="${entry.dataset.curve}"]`).classList.toggle("lit", on);
  };
  entry.addEventListener("pointerenter", () => mark(true));
  entry.addEventListener("pointerleave", () => mark(false));
}

// -- gallery ------------------------------------------------------------------------------------
const controls = document.querySelector(".controls");
const gallery = controls && document.querySelector(".gallery");
const CARD_COLUMNS = ["id", "method", "seed", "label", "cas", "vdc", "ccs", "dd", "sfs", "file"];

function arrange() {
  const { sort, pick, label, method, wrong } = controls.elements;
  const cards = [...gallery.children];
  cards.sort((a, b) => compare(a.dataset[sort.value], b.dataset[sort.value], 1)
    || a.dataset.rank - b.dataset.rank);
  gallery.append(...cards);
  for (const card of cards) {
    card.hidden = (pick.value && card.dataset.pick !== pick.value)
      || (label.value && card.dataset.label !== label.value)
      || (method.value && card.dataset.method !== method.value)
      || (wrong.checked && card.dataset.wrong !== "1");
  }
  const left = cards.filter((card) => !card.hidden).length;
  controls.querySelector("output").textContent = `${left} of ${cards.length} shown`;
}

function enlarge(card) {
  const box = document.querySelector("dialog.lightbox");
  const clone = (selector) => [...card.querySelectorAll(selector)].map((n) => n.cloneNode(true));
  box.querySelector(".lightbox-pair").replaceChildren(...clone(".frame"));
  box.querySelector(".lightbox-text").replaceChildren(...clone(".card-body > *"));
  box.showModal(); // Escape and the close button close it; focus returns to the card
}

if (gallery) {
  controls.addEventListener("input", arrange);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.querySelector(".copy-cards").addEventListener("click", (event) => {
    const shown = [...gallery.children].filter((card) => !card.hidden);
    const rows = shown.map((card) => CARD_COLUMNS.map((name) => card.dataset[name]));
    copy(csv([CARD_COLUMNS, ...rows]), event.currentTarget);
  });
  gallery.addEventListener("click", (event) => {
    const button = event.target.closest("button.pair");
    if (button) enlarge(button.closest(".card"));
  });
  document.querySelector("dialog.lightbox").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) event.currentTarget.close();
  });
  arrange();
}
