// Window and level, inversion: how grey values are shown. One setting holds for every image of the
// page, so that no image is judged under another window than its rivals.

const FULL = { width: 255, level: 127.5, invert: false };
// Of 8-bit grey values, as the copies have them: width and level.
const PRESETS = { full: [255, 127.5], dark: [130, 80], bright: [130, 175], contrast: [128, 127.5] };
const between = (low, value, high) => Math.min(high, Math.max(low, value));

export class Tone {
  /** @param {() => Iterable<HTMLImageElement>} images  all that it applies to */
  constructor(images) {
    this.images = images;
    this.state = { ...FULL };
    this.filters = [...document.querySelectorAll("#tones filter")];
    this.turn = 0;
    for (const panel of document.querySelectorAll(".tone")) this.listen(panel);
    this.apply();
  }

  listen(panel) {
    panel.addEventListener("click", (event) => {
      const button = event.target.closest("[data-preset], [data-tone]");
      if (!button) return;
      if (button.dataset.preset) this.preset(button.dataset.preset);
      else if (button.dataset.tone === "invert") this.invert();
      else this.reset();
    });
    panel.addEventListener("input", (event) => {
      const value = Number(event.target.value);
      // Sliders say it as everyone does: brighter is a lower level, more contrast a narrower window.
      if (event.target.name === "brightness") this.set({ level: 255 - value });
      else if (event.target.name === "contrast") this.set({ width: 256 - value });
    });
  }

  preset(name) {
    const [width, level] = PRESETS[name];
    this.set({ width, level });
  }
  invert() { this.set({ invert: !this.state.invert }); }
  reset() { this.set(FULL); }
  get neutral() { return Object.keys(FULL).every((key) => this.state[key] === FULL[key]); }

  /** By a drag: to the right widens the window, down raises its level. */
  drag(dx, dy) {
    this.set({ width: this.state.width + dx / 2, level: this.state.level + dy / 2 });
  }

  set(change) {
    const next = { ...this.state, ...change };
    this.state = { ...next, width: between(1, next.width, 510), level: between(0, next.level, 255) };
    this.apply();
  }

  apply() {
    const { width, level, invert } = this.state;
    const sign = invert ? -1 : 1;
    // out = (value - level) / width + 1/2, mirrored where inverted.
    const slope = (sign * 255) / width;
    const intercept = 0.5 - (sign * level) / width;
    // Another filter each time: WebKit does not draw anew when a filter in use changes.
    this.turn = 1 - this.turn;
    const filter = this.filters[this.turn];
    for (const part of filter.querySelectorAll("feFuncR, feFuncG, feFuncB")) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", intercept);
    }
    const value = this.neutral ? "" : `url("#${filter.id}")`;
    for (const image of this.images()) image.style.filter = value;
    this.show();
  }

  show() {
    const { width, level, invert } = this.state;
    for (const panel of document.querySelectorAll(".tone")) {
      panel.querySelector("output").textContent = `W ${Math.round(width)}  L ${Math.round(level)}`;
      panel.querySelector("[name=brightness]").value = 255 - level;
      panel.querySelector("[name=contrast]").value = 256 - width;
      panel.querySelector("[data-tone=invert]").setAttribute("aria-pressed", String(invert));
      for (const button of panel.querySelectorAll("[data-preset]")) {
        const [wide, middle] = PRESETS[button.dataset.preset];
        button.setAttribute("aria-pressed", String(wide === width && middle === level));
      }
    }
    for (const mark of document.querySelectorAll(".toned")) mark.hidden = this.neutral;
  }
}
