"use strict";
(() => {
  const value = (row, place) => {
    const told = row.cells[place].textContent.trim();
    const number = parseFloat(told.replace("\u2212", "-").replace(/(\d),(?=\d{3})/g, "$1").replace(/^[<>~\u00b1]\s*/, ""));
    return [told, number];
  };
  const sort = (head, table) => {
    const place = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    const sign = down ? -1 : 1;
    const rows = [...table.tBodies[0].rows].map((row) => [row, ...value(row, place)]);
    rows.sort(([, a, x], [, b, y]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
    });
    table.tBodies[0].append(...rows.map(([row]) => row));
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  for (const button of document.querySelectorAll("table.sortable th button"))
    button.addEventListener("click", () => sort(button.closest("th"), button.closest("table")));

  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    const current = [...links.keys()].find((id) => seen.has(id));
    if (!current) return;
    for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "0px 0px -70% 0px" });
  for (const id of links.keys()) watcher.observe(document.getElementById(id));
})();
