"use strict";
/* A table wider than the page scrolls, and can then be scrolled by keyboard, too; one that fits is no stop on the way. */
function markScrolling() {
  for (const place of document.querySelectorAll(".scroll")) {
    const scrolls = place.scrollWidth > place.clientWidth + 1 || place.scrollHeight > place.clientHeight + 1;
    const marks = { tabindex: "0", role: "region", "aria-label": place.querySelector("caption").textContent };
    for (const [name, value] of Object.entries(marks)) {
      if (scrolls) place.setAttribute(name, value);
      else place.removeAttribute(name);
    }
  }
}
markScrolling();
addEventListener("resize", markScrolling);
/* Draws the figures. Colours of text and grid come from the style sheet, so that print and dark mode need no script. */
const NARROW_PX = 480;
const LEGEND_LINE_PX = 19;
for (const { target, data, layout, config } of JSON.parse(document.getElementById("figures").textContent)) {
  const place = document.getElementById(target);
  if (place.clientWidth < NARROW_PX && layout.legend?.x > 1) {
    layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -60 / place.clientWidth, maxheight: 1 };
    layout.height = place.clientWidth + LEGEND_LINE_PX * (data.length + 1);
  }
  if (place.classList.contains("small") && place.clientWidth < layout.height) layout.height = place.clientWidth + 20;
  Plotly.newPlot(place, data, layout, config).then(() => {
    for (const drawing of place.querySelectorAll("svg.main-svg")) drawing.setAttribute("aria-hidden", "true");
  });
}
