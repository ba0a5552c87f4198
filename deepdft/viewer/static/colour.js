// Colour maps, of data and of atoms. Values in, [r, g, b] of 0 to 1 out.

const parse = (list) => list.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255));
// Low densities have the colour of the page, so that a slice has no edge: mako (seaborn, BSD) between both.
const MAPS = {
  light: parse(["#ffffff", "#def5e5", "#a8e1bc", "#60ceac", "#3eb4ad", "#3497a9", "#357ba3", "#395d9c", "#413e7e", "#382a54", "#25182a"]),
  dark: parse(["#0e151c", "#25304f", "#3a3d78", "#3b5698", "#366fa0", "#3488a6", "#36a2ab", "#49bcad", "#78d6ae", "#b6e6c4", "#f2fbf2"]),
  lightDiverging: parse(["#a8480f", "#d9622b", "#eda27d", "#f8dccd", "#ffffff", "#d3e2f4", "#8fb6e6", "#2f6fd0", "#1c4a94"]),
  darkDiverging: parse(["#ffc19d", "#f08a52", "#b9602f", "#573a2d", "#0e151c", "#263f63", "#3b6fb8", "#6aa3f0", "#bcd8ff"]),
  indicator: parse(["#25182a", "#413e7e", "#357ba3", "#3eb4ad", "#a8e1bc", "#def5e5"]),
  interaction: parse(["#1d3fa8", "#2f6fd0", "#3fa9a0", "#55b36a", "#c9b545", "#d9622b", "#b3261e"]),
  charge: parse(["#c23b2c", "#e38b73", "#e9e6e0", "#7ea9dd", "#2459b0"]),
  trust: parse(["#2f8f5b", "#9bbf4d", "#e3b23c", "#d9622b", "#a3201d"]),
};

const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
export const isDark = () => darkScheme.matches;
export const onScheme = (then) => darkScheme.addEventListener("change", then);

export const GAIN = "#3d7edb", LOSS = "#e0702f";
export const single = () => (isDark() ? "#4fc4b5" : "#17877d");

export function mapped(name, share) {
  const map = MAPS[name], x = Math.min(Math.max(share, 0), 1) * (map.length - 1);
  const i = Math.min(Math.floor(x), map.length - 2), t = x - i;
  return map[i].map((low, channel) => low + t * (map[i + 1][channel] - low));
}

const hex = (name, share) => `#${mapped(name, share).map((c) => Math.round(255 * c).toString(16).padStart(2, "0")).join("")}`;

// How the values of a field become shares of its colour map; `lines` are the values of contour lines.
export function scaleOf(field, range) {
  if (field === "difference" || field === "deformation") {
    const reach = Math.max(range[2], 1e-4);
    const lines = [-0.8, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.8].map((x) => x * reach);
    return { map: isDark() ? "darkDiverging" : "lightDiverging", low: -reach, high: reach, unit: "e/Å³", lines, share: (x) => (x + reach) / (2 * reach) };
  }
  if (field === "spread") {
    const reach = Math.max(range[2], 1e-5);
    return { map: isDark() ? "dark" : "light", low: 0, high: reach, unit: "e/Å³", lines: [0.2, 0.4, 0.8].map((x) => x * reach), share: (x) => x / reach };
  }
  if (field === "iri") return { map: "indicator", low: 0, high: 4.7, unit: "IRI", lines: [1], share: (x) => x / 4.7 };
  if (field === "dori") return { map: "indicator", low: 0, high: 1, unit: "DORI", lines: [0.9], share: (x) => 1 - x };
  if (field === "sign_lambda2_rho") { // 0.04 and 0.02 in atomic units, as plots of IRI have it
    return { map: "interaction", low: -0.27, high: 0.13, unit: "e/Å³", lines: [], share: (x) => 0.5 + (x < 0 ? x / 0.54 : x / 0.26) };
  }
  const low = 1e-3, high = 3; // from the tail of a molecule to its bonds and lone pairs
  return { map: isDark() ? "dark" : "light", low, high, unit: "e/Å³, logarithmic", lines: [0.01, 0.03, 0.1, 0.3, 1, 2],
    share: (x) => Math.log(Math.max(x, 1e-9) / low) / Math.log(high / low) };
}

const ELEMENTS = { H: "#f4f4f2", C: "#565d66", N: "#3f6fd8", O: "#d63a30", F: "#7ab648", P: "#e08a1e", S: "#e3c12f", Cl: "#43a84f",
  Na: "#8a6fd1", K: "#7a55b8", Li: "#b07fd8", Mg: "#5f9c4a", Ca: "#4c8f5f", Al: "#a9a3a0", Si: "#c9a26b", Cu: "#c07a3e", Ni: "#5aa56b", Co: "#d17a9a", Mn: "#9a78c4" };

export const ofElement = (symbol) => ELEMENTS[symbol] ?? `#${(window.$3Dmol.elementColors.Jmol[symbol] ?? 0xb0b0b0).toString(16).padStart(6, "0")}`;
export const ofCharge = (charge) => hex("charge", 0.5 + charge / 1.0); // red is negative, as in maps of potentials
export const ofNovelty = (novelty) => hex("trust", novelty === null ? 1 : novelty / 2); // 1 is the limit, null an unknown element
