"use strict";
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
