// Runs before the page is drawn, so that a chosen theme does not flash. Dark unless chosen otherwise.
(() => {
  const root = document.documentElement;
  const key = "cas-study-theme";
  root.classList.add("js");
  try {
    if (localStorage.getItem(key) === "light") root.dataset.theme = "light";
  } catch { /* storage is off: dark holds */ }
  addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const next = root.dataset.theme === "light" ? "dark" : "light";
    root.dataset.theme = next;
    try { localStorage.setItem(key, next); } catch { /* not remembered */ }
  });
})();
