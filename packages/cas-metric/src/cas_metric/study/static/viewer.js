// Images enlarged, one or two side by side; zoom and position are those of both.

const MAX = 12;

export class Viewer {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {Map<number, HTMLElement>} cards  place to card
   * @param {import("./ranking.js").Ranking} ranking
   * @param {(place: number, rank: number) => void} give
   */
  constructor(dialog, cards, ranking, give) {
    Object.assign(this, { dialog, cards, ranking, give });
    this.panes = [...dialog.querySelectorAll(".pane")].map((element) => ({
      element, image: element.querySelector("img"), stage: element.querySelector(".stage"), place: 1,
    }));
    this.active = this.panes[0];
    this.view = { scale: 1, x: 0, y: 0 };
    dialog.addEventListener("click", (event) => this.click(event));
    dialog.addEventListener("keydown", (event) => this.key(event));
    dialog.addEventListener("close", () => this.cards.get(this.active.place).querySelector(".picture").focus());
    for (const pane of this.panes) this.listen(pane);
    addEventListener("resize", () => this.apply());
  }

  get comparing() { return !this.panes[1].element.hidden; }

  open(place) {
    this.active = this.panes[0];
    this.active.place = place;
    this.compare(false);
    this.fit();
    this.sync();
    this.dialog.showModal();
    this.dialog.focus();
    this.apply();
  }

  compare(on) {
    const [left, right] = this.panes;
    right.element.hidden = !on;
    if (on && right.place === left.place) right.place = this.next(left.place, 1);
    if (!on) this.active = left;
    this.dialog.querySelector("[data-do=compare]").setAttribute("aria-pressed", String(on));
    this.dialog.classList.toggle("comparing", on);
  }

  next(place, step) {
    const count = this.cards.size;
    return ((place - 1 + step + count) % count) + 1;
  }

  /** Show what the ranking says now. */
  sync() {
    for (const pane of this.panes) {
      const card = this.cards.get(pane.place);
      const source = card.querySelector("img").src;
      if (pane.image.src !== source) pane.image.src = source;
      pane.image.alt = `Image ${card.dataset.letter}`;
      const rank = this.ranking.rankOf(pane.place);
      for (const button of pane.element.querySelectorAll(".pick button")) {
        const on = button.dataset.place ? Number(button.dataset.place) === pane.place
          : Number(button.dataset.rank) === rank;
        button.setAttribute("aria-pressed", String(on));
      }
      pane.element.classList.toggle("active", this.comparing && pane === this.active);
    }
    const shown = this.comparing ? this.panes : this.panes.slice(0, 1);
    this.dialog.querySelector("#viewer-title").textContent = shown.map((pane) => {
      const rank = this.ranking.rankOf(pane.place);
      const letter = this.cards.get(pane.place).dataset.letter;
      return `Image ${letter}${rank ? `, rank ${rank}` : ""}`;
    }).join("  ·  ");
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const pane = this.panes.find((each) => each.element.contains(button));
    if (pane) this.active = pane;
    if (button.dataset.place) this.active.place = Number(button.dataset.place);
    if (button.dataset.rank) this.toggle(Number(button.dataset.rank));
    switch (button.dataset.do) {
      case "in": this.zoom(1.4); break;
      case "out": this.zoom(1 / 1.4); break;
      case "fit": this.fit(); break;
      case "compare": this.compare(!this.comparing); break;
      case "close": this.dialog.close(); return;
    }
    this.sync();
    this.apply();
  }

  toggle(rank) {
    const { place } = this.active;
    this.give(place, this.ranking.rankOf(place) === rank ? 0 : rank);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = event.key >= "0" && event.key <= "9" ? Number(event.key) : -1;
    if (event.key === "ArrowRight") this.active.place = this.next(this.active.place, 1);
    else if (event.key === "ArrowLeft") this.active.place = this.next(this.active.place, -1);
    else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "c") this.compare(!this.comparing);
    else if (digit >= 0 && digit <= this.cards.size) this.give(this.active.place, digit);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.sync();
    this.apply();
  }

  fit() { this.view = { scale: 1, x: 0, y: 0 }; this.apply(); }

  /** Zoom, keeping the point (x, y), measured from the middle of a stage, where it is. */
  zoom(factor, x = 0, y = 0) {
    const scale = Math.min(MAX, Math.max(1, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
    this.apply();
  }

  apply() {
    const { view } = this;
    const box = this.panes[0].stage.getBoundingClientRect();
    const reach = (length) => Math.max(0, ((view.scale - 1) * length) / 2);
    view.x = Math.min(reach(box.width), Math.max(-reach(box.width), view.x));
    view.y = Math.min(reach(box.height), Math.max(-reach(box.height), view.y));
    for (const { image } of this.panes) {
      image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    }
    this.dialog.querySelector("#viewer-scale").textContent = `${Math.round(view.scale * 100)}%`;
  }

  listen(pane) {
    const fingers = new Map();
    const { stage } = pane;
    const centre = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...centre(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      if (this.view.scale > 1) this.fit(); else this.zoom(2.5, ...centre(event));
    });
    stage.addEventListener("pointerdown", (event) => {
      this.active = pane;
      this.sync();
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    stage.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const other = [...fingers.values()].find((each) => each.pointerId !== event.pointerId);
      if (other) {
        const span = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
        this.zoom(span(event) / Math.max(1, span(before)), ...centre(other));
      } else {
        this.view.x += event.clientX - before.clientX;
        this.view.y += event.clientY - before.clientY;
        this.apply();
      }
      fingers.set(event.pointerId, event);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    }
  }
}
