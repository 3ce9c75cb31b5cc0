// The explorer. `model` is anywidget's, or in a page of its own an object of the same interface; kan.js stands above.

const NS = "http://www.w3.org/2000/svg";
const POINTS = 97; // of a curve

function make(parent, name, attributes = {}, text) {
  const inSvg = name === "svg" || parent.namespaceURI === NS;
  const element = parent.appendChild(inSvg ? document.createElementNS(NS, name) : document.createElement(name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const show = (value) => (Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : value.toFixed(3));
const span = (values) => {
  const finite = values.filter(Number.isFinite);
  return finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 0];
};
const line = (points) => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(2)},${y.toFixed(2)}`).join("");
// Blue below the middle of a range, white at it, red above.
function colour(value, [low, high]) {
  const part = Math.max(-1, Math.min(1, (2 * (value - low)) / (high - low || 1) - 1));
  const pale = Math.round(255 * (1 - Math.abs(part)));
  return part < 0 ? `rgb(${pale},${Math.round(pale * 0.7 + 76)},255)` : `rgb(255,${Math.round(pale * 0.7 + 76)},${pale})`;
}

// Where values lie in a box: a function (t, v) -> [x, y].
function scale([left, right], [low, high], x, y, width, height) {
  const room = high - low || 1;
  return (t, v) => [x + (width * (t - left)) / (right - left || 1), y + height * (1 - (v - low) / room)];
}

// ---- what is drawn once: boxes, lines, nodes

function draw(svg, state, pick) {
  const unit = state.unit;
  const parts = { boxes: new Map(), nodes: [], dots: new Map() };
  const at = (places, k, along) => (places.turned ? [along * unit, k * unit] : [k * unit, along * unit]);
  const join = (a, b) => make(svg, "path", { d: line([a, b]), class: "line" });
  let entry = -0.1;
  for (const layer of state.layers) {
    const p = layer.places;
    const [near, far] = [Math.min(...p.inputs), Math.max(...p.outputs)];
    for (const k of p.inputs) join(at(p, k, entry), at(p, k, far));
    for (const k of p.outputs) join(at({ turned: !p.turned }, k, near), at({ turned: !p.turned }, k, p.ends));
    let owners = p.outputs.map((_, k) => k).slice(0, layer.sums);
    layer.arities.forEach((arity, k) => owners.push(...Array(arity).fill(layer.sums + k)));
    const side = { turned: !p.turned };
    if (layer.arities.length) owners.forEach((n, k) => join(at(side, p.outputs[k], p.ends), at(side, p.results[n], p.nodes)));
    entry = p.nodes;
  }
  state.layers.forEach((layer, l) => {
    layer.places.inputs.forEach((along, i) =>
      layer.places.outputs.forEach((across, o) => {
        const live = layer.alive[i][o] || `${i},${o}` in layer.formulas;
        if (live) drawBox(svg, state, parts, l, i, o, at(layer.places, along, across), pick);
      }),
    );
    parts.nodes.push(drawNodes(svg, layer, unit, at));
  });
  drawNames(svg, state, at);
  return parts;
}

function drawBox(svg, state, parts, l, i, o, [x, y], pick) {
  const layer = state.layers[l];
  const size = state.unit * 0.84;
  const group = make(svg, "g", { class: "edge", "data-edge": `${l},${i},${o}`, tabindex: 0, role: "button" });
  make(group, "title", {}, `layer ${l}: ${i} → ${o}`);
  const corner = { x: x - size / 2, y: y - size / 2, width: size, height: size };
  make(group, "rect", { ...corner, class: "paper" });
  const glow = make(group, "rect", { ...corner, class: "glow" });
  parts.boxes.set(`${l},${i},${o}`, { group, glow });
  const strength = layer.importance[i][o];
  if (size < 24) {
    make(group, "rect", { ...corner, class: "tile", opacity: 0.05 + 0.95 * strength });
  } else {
    const curve = sampled(layer, i, o);
    const place = scale(layer.ranges[i], span(curve.map(([, v]) => v)), corner.x + size * 0.06, corner.y + size * 0.1, size * 0.88, size * 0.8);
    const kind = `${i},${o}` in layer.formulas ? "curve formula" : "curve";
    const finite = curve.filter(([, v]) => Number.isFinite(v));
    make(group, "path", { d: line(finite.map(([t, v]) => place(t, v))), class: kind, opacity: 0.2 + 0.8 * strength });
    parts.dots.set(`${l},${i},${o}`, { dot: make(group, "circle", { r: Math.max(2, size / 22), class: "dot" }), place });
  }
  group.addEventListener("click", () => pick([l, i, o]));
  group.addEventListener("keydown", (event) => event.key === "Enter" && pick([l, i, o]));
}

function sampled(layer, i, o) {
  const [left, right] = layer.ranges[i];
  return Array.from({ length: POINTS }, (_, k) => {
    const t = left + ((right - left) * k) / (POINTS - 1);
    return [t, edgeValue(layer, i, o, t)];
  });
}

function drawNodes(svg, layer, unit, at) {
  const side = { turned: !layer.places.turned };
  const node = (k, along, sign) => {
    const [cx, cy] = at(side, k, along);
    const circle = make(svg, "circle", { cx, cy, r: unit * 0.16, class: "node" });
    make(circle, "title");
    if (unit >= 28) make(svg, "text", { x: cx, y: cy, class: "sign", "font-size": unit * 0.24 }, sign);
    return circle;
  };
  const p = layer.places;
  const ends = p.outputs.map((k) => node(k, p.ends, "+"));
  const products = p.results.slice(layer.sums).map((k) => node(k, p.nodes, "×"));
  return { ends, nodes: [...ends.slice(0, layer.sums), ...products] };
}

function drawNames(svg, state, at) {
  const [first, last] = [state.layers[0].places, state.layers.at(-1).places];
  const size = Math.max(8, Math.min(14, state.unit * 0.2));
  const wide = (name) => name.length * size * 0.6 > state.unit * 0.95;
  state.in_names.forEach((name, k) => {
    const [x, y] = at(first, first.inputs[k], -0.2);
    const text = make(svg, "text", { x, y, class: "name", "font-size": size, "text-anchor": "middle" }, name);
    if (wide(name)) {
      text.setAttribute("text-anchor", "start");
      text.setAttribute("transform", `rotate(-50 ${x} ${y})`);
    }
  });
  state.out_names.forEach((name, k) => {
    const [x, y] = at({ turned: !last.turned }, last.results[k], last.nodes + (last.turned ? 0.2 : 0.3));
    const text = make(svg, "text", { x, y, class: "name", "font-size": size, "text-anchor": last.turned ? "middle" : "start", dy: last.turned ? "1.1em" : "0.35em" }, name);
    if (last.turned && wide(name)) {
      text.setAttribute("text-anchor", "start");
      text.setAttribute("transform", `rotate(50 ${x} ${y})`);
    }
  });
}

// ---- the panel of one edge

function drawPanel(panel, state, [l, i, o], samples, now) {
  const layer = state.layers[l];
  const formula = layer.formulas[`${i},${o}`];
  make(panel, "h3", {}, `layer ${l}: ${i} → ${o}${formula ? `,  ${formula.text}` : ""}`);
  const curve = sampled(layer, i, o);
  const step = (layer.ranges[i][1] - layer.ranges[i][0]) * 1e-5;
  const slope = curve.map(([t]) => [t, (edgeValue(layer, i, o, t + step) - edgeValue(layer, i, o, t - step)) / (2 * step)]);
  const range = layer.ranges[i];
  const graph = (points, title, height, mark) => {
    make(panel, "div", { class: "caption" }, title);
    const svg = make(panel, "svg", { viewBox: `0 0 300 ${height}`, class: "graph" });
    const finite = points.filter(([, v]) => Number.isFinite(v));
    const limits = span(finite.map(([, v]) => v));
    const place = scale(range, limits, 44, 8, 248, height - 26);
    make(svg, "rect", { x: 44, y: 8, width: 248, height: height - 26, class: "paper" });
    if (limits[0] < 0 && limits[1] > 0) make(svg, "path", { d: line([place(range[0], 0), place(range[1], 0)]), class: "line" });
    for (const [value, y] of [[limits[1], 15], [limits[0], height - 18]]) make(svg, "text", { x: 40, y, class: "tick", "text-anchor": "end" }, show(value));
    for (const [value, x, anchor] of [[range[0], 44, "start"], [range[1], 292, "end"]]) make(svg, "text", { x, y: height - 6, class: "tick", "text-anchor": anchor }, show(value));
    make(svg, "path", { d: line(finite.map(([t, v]) => place(t, v))), class: formula ? "curve formula" : "curve" });
    return { svg, place, bottom: height - 18, mark };
  };
  const { svg, place, bottom } = graph(curve, "function and samples", 170);
  for (const t of samples) make(svg, "path", { d: line([[place(t, 0)[0], bottom], [place(t, 0)[0], bottom - 12]]), class: "rug" });
  const value = edgeValue(layer, i, o, now);
  const [cx, cy] = place(now, value);
  make(svg, "circle", { cx, cy, r: 4, class: "dot" });
  graph(slope, "derivative", 110);
  make(panel, "div", { class: "value", "data-value": value }, `at ${show(now)} the edge is ${show(value)}`);
}

// ---- all of it

function render({ model, el }) {
  const state = model.get("state");
  const root = make(el, "div", { class: "fastkan-explore" });
  const svg = make(make(root, "div", { class: "picture", style: `max-width: ${state.view[2]}px` }), "svg", { viewBox: state.view.join(" ") });
  const side = make(root, "div", { class: "side" });
  const sliders = make(side, "div", { class: "sliders" });
  const outputs = make(side, "div", { class: "outputs" });
  const panel = make(side, "div", { class: "panel" });
  const buttons = make(side, "div", { class: "buttons" });
  const effect = make(side, "div", { class: "effect" });

  const key = (edge) => edge.join(",");
  const has = (name, edge) => model.get(name).some((other) => key(other) === key(edge));
  const gone = (l, i, o) => pruned.has(`${l},${i},${o}`);
  const row = state.samples[0].map((_, i) => state.samples.reduce((sum, sample) => sum + sample[i], 0) / state.samples.length);
  const whole = state.samples.map((sample) => forward(state.layers, sample, () => false));
  let pruned = new Set(model.get("pruned").map(key));
  let runs = whole;
  let chosen = null;
  const hidden = new Set();

  function pick(edge) {
    chosen = edge;
    update();
  }
  const parts = draw(svg, state, pick);

  // after a change of what is pruned
  function rerun() {
    pruned = new Set(model.get("pruned").map(key));
    runs = pruned.size ? state.samples.map((sample) => forward(state.layers, sample, gone)) : whole;
    const last = (run) => run.at(-1).nodes;
    const errors = runs.flatMap((run, k) => last(run).map((y, n) => (y - last(whole[k])[n]) ** 2));
    const change = Math.sqrt(errors.reduce((a, b) => a + b, 0) / errors.length);
    effect.textContent = pruned.size ? `${pruned.size} pruned: the outputs change by ${show(change)} (root mean square)` : "";
    effect.dataset.value = change;
    update();
  }

  function update() {
    const now = forward(state.layers, row, gone);
    now.forEach((values, l) => {
      const nodes = parts.nodes[l];
      for (const kind of ["ends", "nodes"]) {
        nodes[kind].forEach((circle, k) => {
          circle.style.fill = colour(values[kind][k], span(runs.map((run) => run[l][kind][k])));
          circle.firstChild.textContent = show(values[kind][k]);
        });
      }
      const strongest = Math.max(1e-12, ...values.edges.flat().map(Math.abs));
      values.edges.forEach((edges, i) => edges.forEach((value, o) => light(l, i, o, values.inputs[i], value, strongest)));
    });
    outputs.replaceChildren();
    state.out_names.forEach((name, k) => make(outputs, "div", { "data-output": name, "data-value": now.at(-1).nodes[k] }, `${name} = ${show(now.at(-1).nodes[k])}`));
    panel.replaceChildren();
    if (chosen) {
      const [l, i] = chosen;
      drawPanel(panel, state, chosen, runs.map((run) => run[l].inputs[i]), now[l].inputs[i]);
    } else {
      make(panel, "p", {}, "Click an edge to see its function, its samples and its derivative.");
    }
    drawButtons();
  }

  function light(l, i, o, x, value, strongest) {
    const id = `${l},${i},${o}`;
    const box = parts.boxes.get(id);
    if (!box) return;
    const names = { chosen: chosen && key(chosen) === id, pruned: pruned.has(id), marked: has("marked", [l, i, o]), hidden: hidden.has(id) };
    box.group.setAttribute("class", ["edge", ...Object.keys(names).filter((name) => names[name])].join(" "));
    box.glow.style.fill = value < 0 ? "#2a6fff" : "#ff5a36";
    box.glow.style.opacity = 0.35 * Math.abs(value / strongest) || 0;
    const moving = parts.dots.get(id);
    if (moving && Number.isFinite(value)) {
      const [low, high] = state.layers[l].ranges[i];
      const [cx, cy] = moving.place(Math.max(low, Math.min(high, x)), edgeValue(state.layers[l], i, o, Math.max(low, Math.min(high, x))));
      moving.dot.setAttribute("cx", cx);
      moving.dot.setAttribute("cy", cy);
    }
  }

  function toggle(name) {
    const list = model.get(name);
    model.set(name, has(name, chosen) ? list.filter((other) => key(other) !== key(chosen)) : [...list, chosen]);
    model.save_changes();
  }

  function drawButtons() {
    buttons.replaceChildren();
    const button = (name, text, act) => make(buttons, "button", { type: "button", "data-do": name }, text).addEventListener("click", act);
    if (chosen) {
      button("hide", hidden.has(key(chosen)) ? "show" : "hide", () => {
        if (!hidden.delete(key(chosen))) hidden.add(key(chosen));
        update();
      });
      button("prune", has("pruned", chosen) ? "take back" : "prune", () => toggle("pruned"));
      button("mark", has("marked", chosen) ? "unmark" : "mark", () => toggle("marked"));
    }
    if (hidden.size) {
      button("show-all", `show all ${hidden.size} hidden`, () => {
        hidden.clear();
        update();
      });
    }
  }

  state.in_names.forEach((name, i) => {
    const label = make(sliders, "label", {}, name);
    const [min, max] = state.layers[0].ranges[i];
    // JupyterLab would take the arrow keys and go to the next cell
    const slider = make(label, "input", { type: "range", min, max, step: "any", "data-input": name, "data-lm-suppress-shortcuts": true });
    slider.value = row[i];
    const value = make(label, "output", {}, show(row[i]));
    slider.addEventListener("input", () => {
      row[i] = Number(slider.value);
      value.textContent = show(row[i]);
      update();
    });
  });
  model.on("change:pruned", rerun);
  model.on("change:marked", update);
  rerun();
  return () => {
    model.off("change:pruned", rerun);
    model.off("change:marked", update);
  };
}

export default { render };
