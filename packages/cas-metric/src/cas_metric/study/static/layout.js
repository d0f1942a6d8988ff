// Images as large as the window allows: how many stand in a row, whether their controls are below or
// beside them, and whether the dock is below or at the right.

const GAP = 8;
const TARGET = 46; // a row of controls that a finger can hit

/**
 * The largest images in a box.
 * @param {{width: number, height: number}} box
 * @param {number} count  images
 * @param {number} aspect  width of an image over its height
 * @param {{wide: number, high: number}} extra  what stands beside, or below, each image
 * @returns {{columns: number, width: number, height: number}}
 */
export function fit(box, count, aspect, extra = { wide: 0, high: 0 }) {
  let best = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const wide = (box.width - (columns - 1) * GAP) / columns - extra.wide - 2;
    const high = (box.height - (rows - 1) * GAP) / rows - extra.high - 2;
    const width = Math.floor(Math.min(wide, high * aspect));
    if (width > best.width) best = { columns, width, height: Math.floor(width / aspect) };
  }
  return best;
}

/** Width over height of the first image that is there; square until then. */
export function aspectOf(images) {
  const known = [...images].find((each) => each.naturalWidth);
  return known ? known.naturalWidth / known.naturalHeight : 1;
}

export class Layout {
  /** @param {HTMLElement} grid  the cards; @param {number} count  images to rank */
  constructor(grid, count) {
    Object.assign(this, { grid, count });
    this.cards = [...grid.querySelectorAll(".card")];
    this.questions = this.cards[0].querySelectorAll(".question").length;
    const points = Math.max(0, ...[...grid.querySelectorAll(".question")].map((each) => each.querySelectorAll("label").length));
    this.asked = { wide: Math.max(190, points * 45 + 16), high: this.questions * 76 };
    for (const image of grid.querySelectorAll(".picture img")) image.addEventListener("load", () => this.arrange());
    addEventListener("resize", () => this.arrange());
    this.arrange();
  }

  /** Every way to arrange the page, with the box that it leaves for the cards. */
  *ways() {
    const bar = document.querySelector(".bar").offsetHeight + (document.querySelector(".notice")?.offsetHeight ?? 0);
    const lines = [...document.querySelectorAll(".above")].reduce((sum, each) => sum + each.offsetHeight, 0);
    const high = innerHeight - bar - lines - 12;
    const wide = document.documentElement.clientWidth;
    for (const side of [true, false]) {
      if (side && (wide < 600 || wide < innerHeight)) continue;
      const box = side ? { width: wide - this.dockWidth() - 16, height: high } : { width: wide - 16, height: high - this.dockHeight() };
      const ranks = this.count > 1 ? this.count : 0;
      const column = (ranks + 2) * TARGET + 4;
      yield { side, beside: false, box, extra: { wide: 0, high: TARGET * (this.rows(box) + (ranks ? 0 : 1)) + this.asked.high } };
      if (this.questions || column < box.height) {
        yield { side, beside: true, box, extra: { wide: this.questions ? this.asked.wide : TARGET + 2, high: 0 } };
      }
    }
  }

  dockWidth() { return innerWidth < 1000 ? 190 : 230; }
  dockHeight() { return this.count > 1 ? 176 : 110; }
  /** Rows of controls below an image: one, where letter, ranks and button fit side by side. */
  rows(box) { return box.width / Math.min(this.cards.length, 2) > (this.count + 2) * TARGET + 40 ? 1 : 2; }

  arrange() {
    const aspect = aspectOf(this.grid.querySelectorAll(".picture img"));
    let best = null;
    for (const way of this.ways()) {
      const found = { ...way, ...fit(way.box, this.cards.length, aspect, way.extra) };
      if (!best || found.width > best.width) best = found;
    }
    const least = Math.min(this.cards.length > 1 ? 150 : 300, best.box.width - 2);
    if (best.width < least) { // too much to be seen at once: scroll, rather than shrink the images
      const columns = Math.max(1, Math.min(this.cards.length, Math.floor(best.box.width / (least + GAP))));
      const width = Math.floor((best.box.width - (columns - 1) * GAP) / columns - 2);
      const capped = Math.min(width, best.box.height * aspect);
      best = { ...best, beside: false, width: Math.floor(capped), height: Math.floor(capped / aspect), columns };
    }
    this.use(best);
  }

  use({ side, beside, columns, width, height, extra }) {
    document.body.classList.toggle("side", side);
    this.grid.classList.add("fit");
    this.grid.classList.toggle("beside", beside);
    this.grid.classList.toggle("narrow", !beside && width < (this.count + 2) * TARGET);
    const card = width + 2 + (beside ? extra.wide : 0);
    const set = (name, value) => this.grid.style.setProperty(name, `${value}px`);
    set("--wide", width);
    set("--high", height);
    set("--card", card);
    set("--row", columns * card + (columns - 1) * GAP);
  }
}
