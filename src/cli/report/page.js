// What the pointer is on in a chart stands beneath it: the words are those of the bins themselves.
for (const chart of document.querySelectorAll(".chart")) {
  const readout = chart.querySelector(".readout");
  const tell = (event) => {
    const title = event.target.closest?.(".bins rect")?.querySelector("title");
    readout.textContent = title ? title.textContent : "";
  };
  chart.addEventListener("pointermove", tell);
  chart.addEventListener("pointerdown", tell);
  // One kind alone, and all again.
  const items = chart.querySelectorAll(".legend li");
  for (const item of items) {
    item.tabIndex = 0;
    item.setAttribute("role", "button");
    item.setAttribute("aria-pressed", "false");
    const choose = () => {
      const chosen = item.getAttribute("aria-pressed") !== "true";
      for (const other of items) other.setAttribute("aria-pressed", String(chosen && other === item));
      for (const path of chart.querySelectorAll("svg path")) {
        path.classList.toggle("dim", chosen && !path.classList.contains("s" + item.dataset.colour));
      }
    };
    item.addEventListener("click", choose);
    item.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
    });
  }
}
