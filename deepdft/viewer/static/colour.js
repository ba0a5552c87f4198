// Colour maps: viridis for what is positive, blue to red for differences. Values in, [r, g, b] of 0 to 1 out.

const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];
const DIVERGING = ["b2182b", "d6604d", "f4a582", "fddbc7", "f7f7f7", "d1e5f0", "92c5de", "4393c3", "2166ac"];
const parse = (list) => list.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255));
const MAPS = { viridis: parse(VIRIDIS), viridis_r: parse(VIRIDIS).reverse(), diverging: parse(DIVERGING) };

export const GAIN = "#2f6fd0", LOSS = "#d9622b", SINGLE = "#17877d";

export function mapped(name, share) {
  const map = MAPS[name], x = Math.min(Math.max(share, 0), 1) * (map.length - 1);
  const i = Math.min(Math.floor(x), map.length - 2), t = x - i;
  return map[i].map((low, channel) => low + t * (map[i + 1][channel] - low));
}

// How the values of a field become shares of its colour map.
export function scaleOf(field, range) {
  if (field === "difference" || field === "deformation") {
    const reach = Math.max(range[2], 1e-4);
    return { map: "diverging", low: -reach, high: reach, unit: "e/Å³", share: (x) => (x + reach) / (2 * reach) };
  }
  if (field === "iri") return { map: "viridis_r", low: 0, high: 4.7, unit: "IRI", share: (x) => x / 4.7 };
  if (field === "dori") return { map: "viridis", low: 0, high: 1, unit: "DORI", share: (x) => x };
  const low = 1e-3, high = 3; // from the tail of a molecule to its bonds and lone pairs
  return { map: "viridis", low, high, unit: "e/Å³, logarithmic", share: (x) => Math.log(Math.max(x, 1e-9) / low) / Math.log(high / low) };
}
