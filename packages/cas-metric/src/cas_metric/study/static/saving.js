// Drafts are kept as they grow; an answer is sent until the server has it. The server tells
// repetitions of one answer by its submission number, so that sending twice does no harm.

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export class Saver {
  /** @param {HTMLFormElement} form @param {(text: string, kind?: string) => void} show */
  constructor(form, show) {
    this.form = form;
    this.show = show;
    this.url = location.pathname;
    this.dirty = this.busy = this.sending = false;
    this.timer = 0;
    this.mine = document.querySelector("#mine");
    this.mine.addEventListener("click", () => this.keepMine());
  }

  fields(extra = {}) {
    const fields = new URLSearchParams(new FormData(this.form));
    for (const [name, value] of Object.entries(extra)) fields.set(name, value);
    return fields;
  }

  async post(url, body, keepalive = false) {
    const headers = { Accept: "application/json" };
    const answer = await fetch(url, { method: "POST", body, headers, keepalive, redirect: "error" });
    if (answer.status === 404 || answer.status === 409) {
      location.assign("../"); // finished elsewhere, or the link was withdrawn: the first page says
      return null;
    }
    if (answer.status >= 500) throw new Error(String(answer.status));
    return answer.json(); // of 403 too: a proxy stands in the way, so that trying again is no use
  }

  /** Something changed: keep it soon. */
  change(delay = 400) {
    this.dirty = true;
    clearTimeout(this.timer);
    if (this.mine.hidden) this.timer = setTimeout(() => this.flush(), delay);
  }

  /** Keep the draft now, one request at a time. */
  async flush(keepalive = false) {
    if (!this.dirty || this.sending || !this.mine.hidden || (this.busy && !keepalive)) return;
    clearTimeout(this.timer);
    this.dirty = false;
    this.busy = true;
    try {
      const answer = await this.post(`${this.url}/draft`, this.fields(), keepalive);
      if (answer?.conflict) this.warn(answer);
      else if (this.dirty) this.change(); // what came in meanwhile found this request under way
      else if (this.sending || !answer) return;
      else if (answer.saved) this.show("Draft saved");
      else this.show(answer.problem, "trouble");
    } catch {
      if (!this.sending) this.show("Draft not saved yet. Trying again …", "trouble");
      this.change(3000);
    } finally {
      this.busy = false;
    }
  }

  /** Another window holds something newer: the rater says which of the two counts. */
  warn(answer, verdict = "") {
    this.theirs = { ...answer, verdict };
    this.mine.hidden = false;
    const problem = answer.problem.replace("this case was ", "");
    this.show(`Not kept: ${problem}. Reload the page to see it.`, "trouble");
  }

  keepMine() {
    const { revision, seen, verdict } = this.theirs;
    this.form.elements.revision.value = revision;
    if (seen !== undefined) this.form.elements.seen.value = seen;
    this.mine.hidden = true;
    this.dirty = true;
    if (verdict) this.submit(verdict); else this.flush();
  }

  /** Send the answer, again and again if need be, and go where the server says. */
  async submit(verdict) {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    this.show("Saving …");
    const body = this.fields({ verdict });
    for (let pause = 1000; ; pause = Math.min(2 * pause, 15000)) {
      try {
        const answer = await this.post(this.url, body);
        if (answer?.saved) {
          this.dirty = false;
          location.assign(answer.next);
        } else if (answer) {
          this.sending = false;
          if (answer.conflict) this.warn(answer, verdict);
          else this.show(answer.problem, "trouble");
        }
        return;
      } catch {
        this.show("Not saved yet: no connection. Trying again …", "trouble");
        await wait(pause);
      }
    }
  }
}

/** Counts the seconds in which the page is visible and somebody is at it. */
export class Stopwatch {
  constructor(input) {
    const idle = 120_000;
    let active = performance.now();
    let seconds = Number(input.value) || 0;
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) {
      addEventListener(kind, () => { active = performance.now(); }, { passive: true });
    }
    setInterval(() => {
      if (document.hidden || performance.now() - active > idle) return;
      seconds += 0.5;
      input.value = seconds.toFixed(1);
    }, 500);
  }
}
