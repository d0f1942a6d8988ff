// One case: the page's controls around a ranking. Without this script the form still works, by its
// rank-entry fields.

import { enableDrag } from "./drag.js";
import { Layout } from "./layout.js";
import { Ranking } from "./ranking.js";
import { Saver, Stopwatch } from "./saving.js";
import { Tone } from "./tone.js";
import { Undo } from "./undo.js";
import { Viewer } from "./viewer.js";

const find = (selector) => document.querySelector(selector);
const form = find("#ranking");
const grid = find("#grid");
const cards = new Map([...document.querySelectorAll(".card[data-place]")].map((c) => [Number(c.dataset.place), c]));
const slots = [...document.querySelectorAll(".slot")];
const count = cards.size;
const letter = (place) => cards.get(place).dataset.letter;

const ties = form.dataset.ties === "yes";
const ranking = new Ranking(count, checked(), ties);
const saver = new Saver(form, status);
const tone = new Tone(() => document.querySelectorAll(".picture img, .thumb img, .stage img"));
const viewer = new Viewer(find("#viewer"), cards, ranking, give, tone);
const undo = new Undo(snapshot, restore, find("#undo"));
let picked = 0; // an image that was tapped, to be put into the place that is tapped next
let pointer = ""; // kind of the last pointer
let lastTap = { place: 0, time: 0 };

function checked() {
  if (count === 1) return new Map([[1, 1]]);
  const radios = form.querySelectorAll(".ranks input:checked");
  return new Map([...radios].map((radio) => [Number(radio.name.slice(5)), Number(radio.value)]));
}

/** Value of every question, null where none is chosen. */
const ratings = () => new Map([...form.querySelectorAll(".question")].map(
  (each) => [each.dataset.name, each.querySelector("input:checked")?.value ?? null]));
const unrated = () => [...ratings().values()].filter((value) => value === null).length;

let rating = ratings(); // before the click that is under way

function snapshot() { return { ranks: new Map(ranking.ranks), rated: ratings() }; }

function restore({ ranks, rated }) {
  ranking.ranks = new Map(ranks);
  for (const radio of form.querySelectorAll(".question input")) radio.checked = rated.get(radio.name) === radio.value;
  rating = ratings();
  say("Undone");
  changed();
}

function status(text, kind = "") {
  find("#status").textContent = text;
  find("#status").className = `status ${kind}`;
}

function say(text) { find("#said").textContent = text; }

/** Give an image a rank, 0 for none; whoever stands there moves on. */
function give(place, rank) {
  if (count === 1) return;
  const before = [...cards.keys()].map((each) => ranking.rankOf(each));
  undo.mark();
  if (rank) ranking.give(place, rank); else ranking.take(place);
  const moved = [...cards.keys()].filter((each, i) => each !== place && ranking.rankOf(each) !== before[i]);
  const others = moved.map((each) => `${letter(each)} moves to ${ranking.rankOf(each)}`);
  const left = ranking.missing ? `${ranking.missing} left` : "all ranked";
  say([`Image ${letter(place)} ${rank ? `has rank ${rank}` : "has no rank"}`, ...others, left].join(", "));
  changed();
}

function tie() {
  if (!ties) return;
  undo.mark();
  ranking.tie();
  say("No difference: all images have rank 1");
  changed();
}

function changed() {
  pick(0);
  sync();
  status(hint());
  saver.change();
}

const complete = () => ranking.complete && !unrated();
function hint() {
  if (!ranking.complete) return `${ranking.missing} of ${count} still to rank`;
  const left = unrated();
  if (left) return `${left} question${left > 1 ? "s" : ""} still to answer`;
  return count > 1 ? "All ranked" : "All answered";
}

function pick(place) {
  picked = place;
  for (const [each, card] of cards) card.classList.toggle("picked", each === place);
  for (const slot of slots) {
    slot.classList.toggle("picked", place > 0 && ranking.at(Number(slot.dataset.rank)).includes(place));
  }
  document.body.classList.toggle("picking", place > 0);
}

/** Make the page say what the ranking says. */
function sync() {
  for (const [place, card] of cards) {
    const rank = ranking.rankOf(place);
    for (const radio of card.querySelectorAll(".ranks input")) radio.checked = Number(radio.value) === rank;
    card.classList.toggle("ranked", rank > 0);
    card.querySelector(".given").textContent = rank && count > 1 ? `Rank ${rank}` : "";
    const said = rank ? `rank ${rank} of ${count}` : "not ranked";
    card.querySelector(".picture").setAttribute("aria-label", `Image ${letter(place)}, ${said}`);
  }
  for (const slot of slots) fill(slot);
  find("#save").setAttribute("aria-disabled", String(!complete()));
  tone.apply();
  if (viewer.dialog.open) viewer.sync();
}

function fill(slot) {
  const rank = Number(slot.dataset.rank);
  const places = ranking.at(rank);
  const thumb = slot.querySelector(".thumb");
  slot.classList.toggle("filled", places.length > 0);
  for (const old of thumb.querySelectorAll("img, b")) old.remove();
  const letters = places.map(letter).join(" = ");
  thumb.setAttribute("aria-label", `Place ${rank}, ${places.length ? `image ${letters}` : "empty"}`);
  if (!places.length) return;
  const name = document.createElement("b");
  name.textContent = letters;
  thumb.append(...places.map((place) => cards.get(place).querySelector("img").cloneNode()), name);
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
  const [place = 0] = ranking.at(rank);
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
  if (!place) { viewer.dialog.classList.add("with-reference"); viewer.open(1); return; }
  if (pointer !== "touch" || event.detail === 0) { viewer.open(place); return; }
  const again = lastTap.place === place && event.timeStamp - lastTap.time < 350;
  lastTap = { place, time: event.timeStamp };
  if (again) { pick(0); viewer.open(place); } else pick(picked === place ? 0 : place);
}

function slotClick(rank) {
  const there = ranking.at(rank);
  if (picked && !there.includes(picked)) give(picked, rank);
  else pick(there.length && !there.includes(picked) ? there[0] : 0);
}

function rateClick(radio) {
  if (rating.get(radio.name) === radio.value) return;
  const rated = rating;
  rating = ratings();
  undo.past.push({ ranks: new Map(ranking.ranks), rated });
  undo.show();
  changed();
}

function radioClick(radio) {
  const place = Number(radio.name.slice(5));
  const rank = Number(radio.value);
  give(place, ranking.rankOf(place) === rank ? 0 : rank);
}

addEventListener("pointerdown", (event) => { pointer = event.pointerType; }, { capture: true });

grid.addEventListener("keydown", (event) => {
  if (event.target.matches("[data-place] .picture")) pictureKey(event, Number(event.target.closest(".card").dataset.place));
  else if (event.key === "Enter" && event.target.matches("input")) event.preventDefault(); // sends nothing
});
grid.addEventListener("click", (event) => {
  const place = Number(event.target.closest(".card")?.dataset.place);
  if (event.target.matches(".ranks input")) radioClick(event.target);
  else if (event.target.matches(".question input")) return; // its change is what counts
  else if (event.target.closest(".zoom")) viewer.open(place);
  else if (event.target.closest(".picture")) pictureClick(event, place);
});
grid.addEventListener("change", (event) => { if (event.target.matches(".question input")) rateClick(event.target); });
for (const slot of slots) {
  const rank = Number(slot.dataset.rank);
  slot.addEventListener("click", () => slotClick(rank));
  slot.addEventListener("keydown", (event) => slotKey(event, rank));
}
addEventListener("keydown", (event) => {
  if (event.key === "Escape") pick(0);
  const typing = event.target.matches?.("textarea, input[type=text]") || event.ctrlKey || event.metaKey;
  if (event.key === "t" && !typing) tie();
  if (event.key === "i" && !typing && !viewer.dialog.open) tone.invert();
});
find("#tie")?.addEventListener("click", tie);
find("#all")?.addEventListener("click", () => viewer.open(1, count > 1 ? "all" : "one"));

enableDrag((element) => {
  const card = element.closest(".card");
  if (count < 2) return 0;
  if (card) return Number(card.dataset.place ?? 0);
  return ranking.at(Number(element.closest(".slot").dataset.rank))[0] ?? 0;
}, (place, rank) => { if (rank || ranking.rankOf(place)) give(place, rank); });

form.elements.note.addEventListener("input", () => saver.change());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const verdict = event.submitter?.value ?? "ranked";
  if (verdict === "ranked" && !complete()) return missing();
  if (verdict === "cannot-judge" && find("#why")) { find("#why").showModal(); return; }
  saver.submit(verdict);
});

/** Say what is missing, and go there. */
function missing() {
  status(hint(), "trouble");
  say(hint());
  const open = [...cards.keys()].find((place) => !ranking.rankOf(place));
  if (open) focusCard(open);
  else [...form.querySelectorAll(".question")].find((each) => !each.querySelector(":checked")).querySelector("input").focus();
}

find("#why")?.addEventListener("click", (event) => {
  const { reason } = event.target.closest("button")?.dataset ?? {};
  if (reason === undefined) return;
  form.elements.reason.value = reason;
  find("#why").close();
  saver.submit("cannot-judge");
});

find("#help").addEventListener("click", () => find("#instruction").showModal());
find("#window").addEventListener("click", () => { find("#tone").hidden = !find("#tone").hidden; layout.arrange(); });
for (const kind of ["pagehide", "visibilitychange"]) {
  addEventListener(kind, () => { if (kind === "pagehide" || document.hidden) saver.flush(true); });
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const layout = new Layout(grid, count);
new Stopwatch(form.elements.seconds);
sync();
if (!find("#status").textContent) status(hint());
form.dataset.ready = "yes";
