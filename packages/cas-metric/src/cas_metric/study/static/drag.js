// Dragging by pointer events: at once with mouse and pen, after a short hold with a finger, so that
// a finger can still scroll the page.

const HOLD = 220;
const SLACK = 6;

/**
 * @param {(element: Element) => number} itemOf  place of the image under an element, 0 for none
 * @param {(place: number, rank: number) => void} drop  rank 0: back among the others
 */
export function enableDrag(itemOf, drop) {
  let drag = null;

  function begin() {
    drag.active = true;
    clearTimeout(drag.timer);
    drag.ghost = document.createElement("div");
    drag.ghost.className = "ghost";
    drag.ghost.append(drag.source.querySelector("img").cloneNode());
    document.body.append(drag.ghost);
    document.body.classList.add("dragging");
    follow();
  }

  function follow() {
    drag.ghost.style.left = `${drag.x}px`;
    drag.ghost.style.top = `${drag.y}px`;
    const slot = under()?.closest(".slot");
    for (const each of document.querySelectorAll(".slot")) each.classList.toggle("over", each === slot);
  }

  const under = () => document.elementFromPoint(drag.x, drag.y);

  function end() {
    clearTimeout(drag.timer);
    drag.ghost?.remove();
    document.body.classList.remove("dragging");
    for (const each of document.querySelectorAll(".slot.over")) each.classList.remove("over");
    drag = null;
  }

  addEventListener("pointerdown", (event) => {
    const source = event.target.closest?.(".picture, .thumb");
    const place = source ? itemOf(source) : 0;
    if (!place || event.button !== 0 || drag) return;
    const { pointerId: id, clientX: x, clientY: y } = event;
    drag = { id, place, source, x, y, startX: x, startY: y, active: false, timer: 0 };
    if (event.pointerType === "touch") drag.timer = setTimeout(begin, HOLD);
  });

  addEventListener("pointermove", (event) => {
    if (event.pointerId !== drag?.id) return;
    [drag.x, drag.y] = [event.clientX, event.clientY];
    const far = Math.hypot(drag.x - drag.startX, drag.y - drag.startY) > SLACK;
    if (drag.active) follow();
    else if (far && drag.timer) end(); // a finger that scrolls
    else if (far) begin();
  });

  addEventListener("pointerup", (event) => {
    if (event.pointerId !== drag?.id) return;
    if (drag.active) {
      const target = under();
      const slot = target?.closest(".slot");
      const { place } = drag;
      swallowClick();
      if (slot) drop(place, Number(slot.dataset.rank));
      else if (target?.closest("#grid")) drop(place, 0);
    }
    end();
  });

  addEventListener("pointercancel", (event) => { if (event.pointerId === drag?.id) end(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && drag) end(); });
  addEventListener("touchmove", (event) => { if (drag?.active) event.preventDefault(); }, { passive: false });
  addEventListener("contextmenu", (event) => { if (drag) event.preventDefault(); });
}

/** The click that ends a drag means nothing. */
function swallowClick() {
  const stop = (event) => { event.stopPropagation(); event.preventDefault(); };
  addEventListener("click", stop, { capture: true, once: true });
  setTimeout(() => removeEventListener("click", stop, { capture: true }), 0);
}
