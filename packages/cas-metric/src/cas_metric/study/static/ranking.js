// The strict ranking itself: which image has which rank. No page, no network.

export class Ranking {
  /** @param {number} count images, and ranks; @param {Map<number, number>} given place to rank */
  constructor(count, given = new Map()) {
    this.count = count;
    this.slots = new Array(count + 1).fill(0); // rank to place, 0 where nobody is; index 0 unused
    for (const [place, rank] of given) this.slots[rank] = place;
  }

  rankOf(place) { return Math.max(0, this.slots.indexOf(place, 1)); }
  at(rank) { return this.slots[rank]; }
  get missing() { return this.slots.slice(1).filter((place) => !place).length; }
  get complete() { return this.missing === 0; }

  /** Give an image a rank. Whoever holds it moves on, towards the nearest gap. */
  give(place, rank) {
    this.take(place);
    let gap = rank;
    while (gap <= this.count && this.slots[gap]) gap += 1;
    if (gap > this.count) for (gap = rank; this.slots[gap];) gap -= 1;
    const step = gap > rank ? -1 : 1;
    for (let at = gap; at !== rank; at += step) this.slots[at] = this.slots[at + step];
    this.slots[rank] = place;
  }

  /** Take an image's rank back. */
  take(place) {
    const rank = this.rankOf(place);
    if (rank) this.slots[rank] = 0;
  }
}
