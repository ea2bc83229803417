/* Names and roles that the theme and docutils leave out: of the arrows that unfold a part of the contents, and of the
   entries of a bibliography, which are items of a list. And the light theme for a page that is printed. */
"use strict";
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("nav details > summary").forEach((summary) => {
    const link = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `pages under ${link ? link.textContent.trim() : "this one"}`);
  });
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
});
addEventListener("beforeprint", () => {
  const page = document.documentElement, shown = page.dataset.theme;
  page.dataset.theme = "light";
  addEventListener("afterprint", () => { page.dataset.theme = shown; }, { once: true });
});
