"use strict";
// Figures come as JSON whose colours are names of CSS variables, so light, dark and print need one definition only.
(() => {
  const root = document.documentElement;
  const remember = (message) => {
    root.dataset.errors = (root.dataset.errors ? root.dataset.errors + "\n" : "") + message;
  };
  window.addEventListener("error", (event) => remember(event.message));
  window.addEventListener("unhandledrejection", (event) => remember(String(event.reason)));

  const THEMES = ["auto", "light", "dark"];
  const KEPT = "tje-report-theme";
  const kept = () => {
    try { return localStorage.getItem(KEPT); } catch { return null; }
  };
  const keep = (theme) => {
    try { localStorage.setItem(KEPT, theme); } catch { /* a page from disk may have no storage */ }
  };
  const setTheme = (theme) => {
    root.dataset.theme = THEMES.includes(theme) ? theme : "auto";
  };
  setTheme(kept());

  const resolved = (value, style) => {
    if (typeof value === "string") {
      return value.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    }
    if (Array.isArray(value)) return value.map((part) => resolved(part, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, resolved(part, style)]));
    }
    return value;
  };

  const AXIS = {
    fixedrange: true, automargin: true, zeroline: false, showline: false, ticks: "", gridcolor: "var(--grid)",
    tickfont: { color: "var(--muted)" }, title: { standoff: 8 },
  };
  const merged = (base, own) => {
    const result = { ...base };
    for (const [key, value] of Object.entries(own)) {
      const both = value && typeof value === "object" && !Array.isArray(value) && typeof base[key] === "object";
      result[key] = both ? merged(base[key], value) : value;
    }
    return result;
  };
  const layoutOf = (figure, box, style) => {
    const narrow = box.clientWidth < 520;
    const layout = merged({
      font: { family: style.getPropertyValue("--sans"), size: narrow ? 12 : 13, color: "var(--ink)" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      hovermode: "closest", margin: { l: narrow ? 40 : 52, r: narrow ? 18 : 22, t: 14, b: 40, pad: 2 },
      hoverlabel: { bgcolor: "var(--paper)", bordercolor: "var(--line)", font: { color: "var(--ink)" } },
      autosize: true,
    }, figure.layout);
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        layout[key] = merged(AXIS, layout[key]);
        if (narrow && key[0] === "x" && !layout[key].tickvals) {
          layout[key].nticks = layout[key].domain ? 4 : 5;
          delete layout[key].dtick;
        }
      }
    }
    return resolved(layout, style);
  };

  let figures = {};
  const draw = async () => {
    const style = getComputedStyle(root);
    let drawn = 0;
    for (const box of document.querySelectorAll(".plot")) {
      const figure = figures[box.dataset.figure];
      await Plotly.react(box, resolved(figure.data, style), layoutOf(figure, box, style), {
        displayModeBar: false, responsive: true, doubleClick: false, showTips: false,
      });
      drawn += 1;
    }
    root.dataset.drawn = String(drawn);
  };
  const redraw = () => draw().catch((reason) => remember(String(reason)));

  document.addEventListener("DOMContentLoaded", () => {
    figures = JSON.parse(document.getElementById("figures").textContent);
    const button = document.getElementById("theme");
    const label = () => { button.textContent = `Theme: ${root.dataset.theme}`; };
    button.addEventListener("click", () => {
      setTheme(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
      keep(root.dataset.theme);
      label();
      redraw();
    });
    button.hidden = false;
    label();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let wasNarrow = innerWidth < 560;
    addEventListener("resize", () => {
      if (wasNarrow !== (innerWidth < 560)) { wasNarrow = !wasNarrow; redraw(); }
    });
    // On paper there is nothing to click: what is folded is opened, and colours are those for white.
    let folded = [], theme = root.dataset.theme;
    addEventListener("beforeprint", () => {
      folded = [...document.querySelectorAll("details:not([open])")];
      folded.forEach((box) => { box.open = true; });
      theme = root.dataset.theme;
      setTheme("light");
      redraw();
    });
    addEventListener("afterprint", () => {
      folded.forEach((box) => { box.open = false; });
      setTheme(theme);
      redraw();
    });
    redraw();
  });
})();
