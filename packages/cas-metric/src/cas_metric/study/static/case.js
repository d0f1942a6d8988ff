// One case: the page's controls around a ranking. Without this script the form still works, by its
// rank-entry fields.

import { enableDrag } from "./drag.js";
import { Ranking } from "./ranking.js";
import { Saver, Stopwatch } from "./saving.js";
import { Viewer } from "./viewer.js";

const find = (selector) => document.querySelector(selector);
const form = find("#ranking");
const grid = find("#grid");
const cards = new Map([...document.querySelectorAll(".card")].map((c) => [Number(c.dataset.place), c]));
const slots = [...document.querySelectorAll(".slot")];
const count = cards.size;
const letter = (place) => cards.get(place).dataset.letter;

const ranking = new Ranking(count, checked());
const saver = new Saver(form, status);
const viewer = new Viewer(find("#viewer"), cards, ranking, give);
let picked = 0; // an image that was tapped, to be put into the place that is tapped next
let pointer = ""; // kind of the last pointer
let lastTap = { place: 0, time: 0 };

function checked() {
  const radios = form.querySelectorAll(".ranks input:checked");
  return new Map([...radios].map((radio) => [Number(radio.name.slice(5)), Number(radio.value)]));
}

function status(text, kind = "") {
  find("#status").textContent = text;
  find("#status").className = `status ${kind}`;
}

function say(text) { find("#said").textContent = text; }

/** Give an image a rank, 0 for none; whoever stands there moves on. */
function give(place, rank) {
  const before = [...cards.keys()].map((each) => ranking.rankOf(each));
  if (rank) ranking.give(place, rank); else ranking.take(place);
  const moved = [...cards.keys()].filter((each, i) => each !== place && ranking.rankOf(each) !== before[i]);
  const others = moved.map((each) => `${letter(each)} moves to ${ranking.rankOf(each)}`);
  const left = ranking.missing ? `${ranking.missing} left` : "all ranked";
  say([`Image ${letter(place)} ${rank ? `has rank ${rank}` : "has no rank"}`, ...others, left].join(", "));
  pick(0);
  sync();
  status(hint());
  saver.change();
}

const hint = () => (ranking.complete ? "All ranked" : `${ranking.missing} of ${count} still to rank`);

function pick(place) {
  picked = place;
  for (const [each, card] of cards) card.classList.toggle("picked", each === place);
  for (const slot of slots) {
    slot.classList.toggle("picked", place > 0 && ranking.at(Number(slot.dataset.rank)) === place);
  }
  document.body.classList.toggle("picking", place > 0);
}

/** Make the page say what the ranking says. */
function sync() {
  for (const [place, card] of cards) {
    const rank = ranking.rankOf(place);
    for (const radio of card.querySelectorAll(".ranks input")) radio.checked = Number(radio.value) === rank;
    card.classList.toggle("ranked", rank > 0);
    card.querySelector(".given").textContent = rank ? `Rank ${rank}` : "";
    const said = rank ? `rank ${rank} of ${count}` : "not ranked";
    card.querySelector(".picture").setAttribute("aria-label", `Image ${letter(place)}, ${said}`);
  }
  for (const slot of slots) fill(slot);
  find("#save").setAttribute("aria-disabled", String(!ranking.complete));
  if (viewer.dialog.open) viewer.sync();
}

function fill(slot) {
  const rank = Number(slot.dataset.rank);
  const place = ranking.at(rank);
  const thumb = slot.querySelector(".thumb");
  slot.classList.toggle("filled", place > 0);
  thumb.querySelector("img")?.remove();
  thumb.querySelector("b")?.remove();
  thumb.setAttribute("aria-label", `Place ${rank}, ${place ? `image ${letter(place)}` : "empty"}`);
  if (!place) return;
  const image = cards.get(place).querySelector("img").cloneNode();
  const name = document.createElement("b");
  name.textContent = letter(place);
  thumb.append(image, name);
}

function focusCard(place) { cards.get(place).querySelector(".picture").focus(); }

function digitOf(event) {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const digit = plain && event.key >= "0" && event.key <= "9" ? Number(event.key) : -1;
  return digit <= count ? digit : -1;
}

function pictureKey(event, place) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const digit = digitOf(event);
  if (step) focusCard(((place - 1 + step + count) % count) + 1);
  else if (digit >= 0) give(place, digit);
  else if (event.key === "Backspace" || event.key === "Delete") give(place, 0);
  else return;
  event.preventDefault();
}

function slotKey(event, rank) {
  const place = ranking.at(rank);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const digit = digitOf(event);
  const to = step ? rank + step : digit;
  if (step && (to < 1 || to > count)) return;
  if (place && to >= 0) give(place, to);
  else if (place && (event.key === "Backspace" || event.key === "Delete")) give(place, 0);
  else if (!step) return;
  if (to > 0) slots[to - 1].querySelector(".thumb").focus();
  event.preventDefault();
}

function pictureClick(event, place) {
  if (pointer !== "touch" || event.detail === 0) { viewer.open(place); return; }
  const again = lastTap.place === place && event.timeStamp - lastTap.time < 350;
  lastTap = { place, time: event.timeStamp };
  if (again) { pick(0); viewer.open(place); } else pick(picked === place ? 0 : place);
}

function slotClick(rank) {
  const there = ranking.at(rank);
  if (picked && picked !== there) give(picked, rank);
  else pick(there && picked !== there ? there : 0);
}

function radioClick(radio) {
  const place = Number(radio.name.slice(5));
  const rank = Number(radio.value);
  give(place, ranking.rankOf(place) === rank ? 0 : rank);
}

addEventListener("pointerdown", (event) => { pointer = event.pointerType; }, { capture: true });

grid.addEventListener("keydown", (event) => {
  if (event.target.matches(".picture")) pictureKey(event, Number(event.target.closest(".card").dataset.place));
  else if (event.key === "Enter" && event.target.matches("input")) event.preventDefault(); // sends nothing
});
grid.addEventListener("click", (event) => {
  const place = Number(event.target.closest(".card")?.dataset.place);
  if (event.target.matches(".ranks input")) radioClick(event.target);
  else if (event.target.closest(".zoom")) viewer.open(place);
  else if (event.target.closest(".picture")) pictureClick(event, place);
});
for (const slot of slots) {
  const rank = Number(slot.dataset.rank);
  slot.addEventListener("click", () => slotClick(rank));
  slot.addEventListener("keydown", (event) => slotKey(event, rank));
}
addEventListener("keydown", (event) => { if (event.key === "Escape") pick(0); });

enableDrag((element) => {
  const card = element.closest(".card");
  return card ? Number(card.dataset.place) : ranking.at(Number(element.closest(".slot").dataset.rank));
}, (place, rank) => { if (rank || ranking.rankOf(place)) give(place, rank); });

form.elements.note.addEventListener("input", () => saver.change());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const verdict = event.submitter?.value ?? "ranked";
  if (verdict === "ranked" && !ranking.complete) {
    status(hint(), "trouble");
    say(hint());
    const open = [...cards.keys()].find((place) => !ranking.rankOf(place));
    focusCard(open);
    return;
  }
  saver.submit(verdict);
});

find("#help").addEventListener("click", () => find("#instruction").showModal());
for (const kind of ["pagehide", "visibilitychange"]) {
  addEventListener(kind, () => { if (kind === "pagehide" || document.hidden) saver.flush(true); });
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

new Stopwatch(form.elements.seconds);
sync();
if (!find("#status").textContent) status(hint());
form.dataset.ready = "yes";
