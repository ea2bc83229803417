/* The entries of a bibliography are items of a list; docutils gives them a role that is deprecated. */
"use strict";
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
});
