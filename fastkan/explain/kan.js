// A KAN in the browser: the functions of fastkan's layers, in float64.

// Abramowitz and Stegun 7.1.26; errors below 2e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const y = 1 - t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x);
  return x < 0 ? -y : y;
}

const ACTIVATIONS = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  tanh: Math.tanh,
  relu: (x) => Math.max(x, 0),
  identity: (x) => x,
  zero: () => 0,
};

const FUNCTIONS = {
  "0": () => 0,
  x: (x) => x,
  "x**2": (x) => x * x,
  "x**3": (x) => x ** 3,
  "x**4": (x) => x ** 4,
  "x**5": (x) => x ** 5,
  "1/x": (x) => 1 / x,
  "1/x**2": (x) => 1 / (x * x),
  "1/x**3": (x) => x ** -3,
  "1/x**4": (x) => x ** -4,
  "1/x**5": (x) => x ** -5,
  "x**1.5": (x) => x * Math.sqrt(x),
  sqrt: Math.sqrt,
  "1/sqrt": (x) => 1 / Math.sqrt(x),
  exp: Math.exp,
  log: Math.log,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  asin: Math.asin,
  acos: Math.acos,
  asinh: Math.asinh,
  atan: Math.atan,
  atanh: Math.atanh,
  abs: Math.abs,
  sign: Math.sign,
  lorentz: (x) => 1 / (1 + x * x),
  gaussian: (x) => Math.exp(-x * x),
};

// The splines at x, one an entry, and the activation: Cox's and de Boor's recursion over the cells of the grid.
function slots(layer, i, x) {
  const knots = layer.knots[i];
  const ratio = (a, b) => (b ? a / b : 0);
  let basis = knots.slice(1).map((right, j) => (knots[j] <= x && x < right ? 1 : 0));
  for (let d = 1; d <= layer.degree; d++) {
    basis = basis.slice(1).map(
      (next, j) =>
        ratio(x - knots[j], knots[j + d] - knots[j]) * basis[j] +
        ratio(knots[j + d + 1] - x, knots[j + d + 1] - knots[j + 1]) * next,
    );
  }
  return [...basis, ACTIVATIONS[layer.activation](x)];
}

// The value of edge (i, o) at x; `at` holds slots(layer, i, x) where the caller has them.
function edgeValue(layer, i, o, x, at = slots(layer, i, x)) {
  const formula = layer.formulas[`${i},${o}`];
  if (formula) {
    const [a, b, c, d] = formula.affine;
    return c * FUNCTIONS[formula.name](a * x + b) + d;
  }
  return layer.alive[i][o] ? at.reduce((sum, value, m) => sum + value * layer.weight[i][m][o], 0) : 0;
}

// What every layer takes and gives for one row: {inputs, edges[i][o], ends, nodes}. `gone(l, i, o)` tells edges left out.
function forward(layers, row, gone) {
  let inputs = row;
  return layers.map((layer, l) => {
    const edges = inputs.map((x, i) => {
      const at = slots(layer, i, x);
      return layer.alive[i].map((_, o) => (gone(l, i, o) ? 0 : edgeValue(layer, i, o, x, at)));
    });
    const ends = layer.bias.map((bias, o) => edges.reduce((sum, row) => sum + row[o], bias));
    let next = layer.sums;
    const products = layer.arities.map((arity) => ends.slice(next, (next += arity)).reduce((a, b) => a * b));
    const result = { inputs, edges, ends, nodes: [...ends.slice(0, layer.sums), ...products] };
    inputs = result.nodes;
    return result;
  });
}
