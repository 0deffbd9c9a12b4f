"use strict";
for (const box of document.querySelectorAll("nav, .scroll, pre")) { // what goes on to the right fades there
  const mark = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
}
for (const chart of document.querySelectorAll("svg.chart[data-points]")) {
  const data = JSON.parse(chart.dataset.points);
  const tip = chart.parentElement.querySelector(".tip");
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
  rule.setAttribute("class", "rule");
  rule.setAttribute("y1", data.top);
  rule.setAttribute("y2", data.bottom);
  rule.style.display = "none";
  chart.append(rule);
  const number = (value) => Number(value.toPrecision(4)).toString();
  const leave = () => { tip.hidden = true; rule.style.display = "none"; };
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
    const nearest = (points) => points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
    const found = data.lines.filter((line) => line.points.length).map((line) => ({ line, point: nearest(line.points) }));
    const x = nearest(found.map((one) => one.point));
    rule.setAttribute("x1", x[0]);
    rule.setAttribute("x2", x[0]);
    rule.style.display = "";
    tip.replaceChildren(`${data.x} ${number(x[2])}`);
    for (const { line, point } of found) {
      if (point[0] !== x[0]) continue;
      const row = document.createElement("div");
      const dot = document.createElement("i");
      dot.style.cssText = `display:inline-block;width:.7em;height:.7em;margin-right:5px;background:${line.colour}`;
      row.append(dot, `${line.name} ${number(point[3])}`);
      tip.append(row);
    }
    tip.hidden = false;
    const left = x[0] * box.width / chart.viewBox.baseVal.width;
    tip.style.left = left > box.width / 2 ? "" : `${left + 10}px`;
    tip.style.right = left > box.width / 2 ? `${box.width - left + 10}px` : "";
  });
}
