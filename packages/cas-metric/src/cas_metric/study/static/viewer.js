// Images enlarged: one, two or all of them. Zoom, position and window are those of every one.

import { aspectOf, fit } from "./layout.js";

const MAX = 16;
const MODES = ["one", "two", "all"];

export class Viewer {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {Map<number, HTMLElement>} cards  place to card
   * @param {import("./ranking.js").Ranking} ranking
   * @param {(place: number, rank: number) => void} give
   * @param {import("./tone.js").Tone} tone
   */
  constructor(dialog, cards, ranking, give, tone) {
    Object.assign(this, { dialog, cards, ranking, give, tone, mode: "one", place: 1, partner: 2, tool: "move" });
    this.panes = [...dialog.querySelectorAll(".pane")].map((element) => ({
      element, image: element.querySelector("img"), stage: element.querySelector(".stage"), place: Number(element.dataset.place),
    }));
    this.view = { scale: 1, x: 0, y: 0 };
    dialog.addEventListener("click", (event) => this.click(event));
    dialog.addEventListener("keydown", (event) => this.key(event));
    dialog.addEventListener("close", () => this.cards.get(this.place).querySelector(".picture").focus());
    for (const pane of this.panes) {
      this.listen(pane);
      pane.image.addEventListener("load", () => this.apply());
    }
    addEventListener("resize", () => { if (dialog.open) this.sync(); });
  }

  /** The pane of an image; 0 is the reference. */
  pane(place) { return this.panes.find((each) => each.place === place); }
  card(place) { return this.cards.get(place) ?? document.querySelector(".reference"); }
  get shown() { return this.panes.filter((each) => !each.element.hidden); }

  open(place, mode = "one") {
    Object.assign(this, { place, mode });
    this.dialog.showModal();
    this.dialog.focus();
    this.fit();
    this.sync();
  }

  show(mode) { this.mode = mode; this.sync(); }

  /** Show another image; in the place of the partner, the two change. */
  go(place) {
    if (place === this.partner) this.partner = this.place;
    this.place = place;
    this.sync();
  }

  next(place, step) {
    const count = this.cards.size;
    return ((place - 1 + step + count) % count) + 1;
  }

  visible(place) {
    if (place === 0) return this.dialog.classList.contains("with-reference");
    return this.mode === "all" || place === this.place || (this.mode === "two" && place === this.partner);
  }

  /** Show what the ranking says now. */
  sync() {
    if (this.partner === this.place) this.partner = this.next(this.place, 1);
    for (const pane of this.panes) {
      pane.element.hidden = !this.visible(pane.place);
      pane.element.classList.toggle("active", this.mode !== "one" && pane.place === this.place);
      if (!pane.image.src) pane.image.src = this.card(pane.place).querySelector("img").src;
      const rank = this.ranking.rankOf(pane.place);
      for (const button of pane.element.querySelectorAll("[data-rank]")) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.rank) === rank));
      }
    }
    for (const button of this.dialog.querySelectorAll("header [data-place]")) {
      button.setAttribute("aria-pressed", String(this.visible(Number(button.dataset.place))));
    }
    for (const mode of MODES) this.press(mode, this.mode === mode);
    this.press("reference", this.visible(0));
    this.press("tone", this.tool === "tone");
    this.arrange();
    this.apply();
  }

  press(what, on) { this.dialog.querySelector(`[data-do=${what}]`)?.setAttribute("aria-pressed", String(on)); }

  /** As many panes in a row as make the images largest. */
  arrange() {
    const panes = this.dialog.querySelector(".panes");
    const box = { width: panes.clientWidth, height: panes.clientHeight };
    const footer = this.shown[0].element.querySelector("footer").offsetHeight;
    const { columns } = fit(box, this.shown.length, aspectOf(this.panes.map((each) => each.image)), { wide: 4, high: footer + 4 });
    panes.style.setProperty("--columns", columns);
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button || button.closest(".tone")) return;
    const pane = this.panes.find((each) => each.element.contains(button));
    if (pane?.place) this.place = pane.place;
    if (button.dataset.place) this.go(Number(button.dataset.place));
    if (button.dataset.rank) this.toggle(Number(button.dataset.rank));
    this.act(button.dataset.do);
    if (this.dialog.open) this.sync();
  }

  act(what) {
    switch (what) {
      case "in": this.zoom(1.4); break;
      case "out": this.zoom(1 / 1.4); break;
      case "fit": this.fit(); break;
      case "pixels": this.pixels(); break;
      case "tone": this.tool = this.tool === "tone" ? "move" : "tone"; break;
      case "reference": this.dialog.classList.toggle("with-reference"); break;
      case "close": this.dialog.close(); break;
      default: if (MODES.includes(what)) this.mode = what;
    }
    this.dialog.classList.toggle("toning", this.tool === "tone");
  }

  toggle(rank) { this.give(this.place, this.ranking.rankOf(this.place) === rank ? 0 : rank); }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=range]")) return;
    const digit = event.key >= "0" && event.key <= "9" ? Number(event.key) : -1;
    const action = {
      "+": "in", "=": "in", "-": "out", f: "fit", p: "pixels", w: "tone", r: "reference", a: "all",
      c: this.mode === "two" ? "one" : "two",
    }[event.key];
    if (event.key === "ArrowRight") this.go(this.next(this.place, 1));
    else if (event.key === "ArrowLeft") this.go(this.next(this.place, -1));
    else if (action) this.act(action);
    else if (event.key === "i") this.tone.invert();
    else if (digit >= 0 && digit <= this.cards.size) this.give(this.place, digit);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.sync();
  }

  fit() { this.view = { scale: 1, x: 0, y: 0 }; this.apply(); }

  /** How much an image is enlarged, beyond filling its stage, when its pixels are the screen's. */
  actual() {
    const { image, stage } = this.pane(this.place);
    if (!image.naturalWidth) return 1;
    const filled = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
    return 1 / (filled * devicePixelRatio);
  }

  /** One pixel of the image is one of the screen. */
  pixels() { this.view = { scale: this.actual(), x: 0, y: 0 }; this.apply(); }

  /** Zoom, keeping the point (x, y), measured from the middle of a stage, where it is. */
  zoom(factor, x = 0, y = 0) {
    const scale = Math.min(MAX, Math.max(Math.min(1, this.actual()), this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
    this.apply();
  }

  apply() {
    if (!this.dialog.open) return;
    const { view } = this;
    const box = this.pane(this.place).stage;
    const reach = (length) => Math.max(0, ((view.scale - 1) * length) / 2);
    view.x = Math.min(reach(box.clientWidth), Math.max(-reach(box.clientWidth), view.x));
    view.y = Math.min(reach(box.clientHeight), Math.max(-reach(box.clientHeight), view.y));
    const actual = this.actual();
    const exact = Math.abs(view.scale / actual - 1) < 1e-6;
    for (const { image, stage } of this.shown) {
      // On whole pixels of the screen, so that at 1:1 none is blended with its neighbour.
      const whole = (offset, length, size) => (exact ? Math.round((length - size) / 2 + offset) - (length - size) / 2 : offset);
      const x = whole(view.x, stage.clientWidth, image.naturalWidth / devicePixelRatio);
      const y = whole(view.y, stage.clientHeight, image.naturalHeight / devicePixelRatio);
      image.style.transform = `translate(${x}px, ${y}px) scale(${view.scale})`;
      image.style.imageRendering = exact ? "pixelated" : "";
    }
    this.dialog.querySelector("#viewer-scale").textContent = `${Math.round((100 * view.scale) / actual)}%`;
    this.press("pixels", exact);
  }

  listen(pane) {
    const fingers = new Map();
    const { stage } = pane;
    const centre = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    };
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...centre(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      if (this.tool === "tone") this.tone.reset();
      else if (this.view.scale > 1) this.fit();
      else this.zoom(2.5, ...centre(event));
    });
    stage.addEventListener("pointerdown", (event) => {
      if (pane.place && pane.place !== this.place && this.mode !== "one") this.go(pane.place);
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    stage.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      if (!event.buttons) { fingers.delete(event.pointerId); return; } // released where nobody heard it
      const other = [...fingers.values()].find((each) => each.pointerId !== event.pointerId);
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      if (other) {
        const span = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
        this.zoom(span(event) / Math.max(1, span(before)), ...centre(other));
      } else if (this.tool === "tone" || event.buttons & 2) {
        this.tone.drag(dx, dy);
      } else {
        this.view.x += dx;
        this.view.y += dy;
        this.apply();
      }
      fingers.set(event.pointerId, event);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    }
  }
}
