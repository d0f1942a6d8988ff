// Runs before the page is drawn, so that a chosen theme does not flash.
(() => {
  document.documentElement.classList.add("js");
  try {
    const theme = localStorage.getItem("cas-report-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is off: the system's theme holds */ }
})();
