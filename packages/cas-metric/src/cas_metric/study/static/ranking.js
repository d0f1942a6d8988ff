// The ranking itself: which image has which rank. No page, no network.

export class Ranking {
  /**
   * @param {number} count  images, and ranks
   * @param {Map<number, number>} given  place to rank
   * @param {boolean} ties  whether images may share a rank
   */
  constructor(count, given = new Map(), ties = false) {
    Object.assign(this, { count, ties, ranks: new Map(given) });
  }

  rankOf(place) { return this.ranks.get(place) ?? 0; }
  /** Places of the images with a rank. */
  at(rank) { return [...this.ranks.keys()].filter((place) => this.ranks.get(place) === rank); }
  get missing() { return this.count - this.ranks.size; }
  get complete() { return this.missing === 0; }

  /** Give an image a rank. Unless ties are allowed, whoever holds it moves on to the nearest gap. */
  give(place, rank) {
    this.take(place);
    if (!this.ties) this.clear(rank);
    this.ranks.set(place, rank);
    // Of two images, the other one has the other rank.
    if (this.count === 2) this.ranks.set(3 - place, 3 - rank);
  }

  /** Move images by one from a rank to the nearest gap, the worse side first. */
  clear(rank) {
    const free = (each) => this.at(each).length === 0;
    let gap = rank;
    while (gap <= this.count && !free(gap)) gap += 1;
    if (gap > this.count) for (gap = rank; !free(gap);) gap -= 1;
    const step = gap > rank ? -1 : 1;
    for (let at = gap; at !== rank; at += step) {
      for (const place of this.at(at + step)) this.ranks.set(place, at);
    }
  }

  /** Take an image's rank back. */
  take(place) { this.ranks.delete(place); }

  /** All images are equally good. */
  tie() { for (let place = 1; place <= this.count; place += 1) this.ranks.set(place, 1); }
}
