// Steps back within a case.

export class Undo {
  /**
   * @param {() => unknown} take  what there is now
   * @param {(state: any) => void} put  makes it so again
   * @param {HTMLButtonElement} button
   */
  constructor(take, put, button) {
    Object.assign(this, { take, put, button, past: [] });
    button.addEventListener("click", () => this.back());
    addEventListener("keydown", (event) => {
      const typing = event.target.matches?.("textarea, input[type=text]");
      if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || typing) return;
      event.preventDefault();
      this.back();
    });
    this.show();
  }

  /** Something is about to change. */
  mark() { this.past.push(this.take()); this.show(); }

  back() {
    if (!this.past.length) return;
    this.put(this.past.pop());
    this.show();
  }

  show() { this.button.disabled = !this.past.length; }
}
