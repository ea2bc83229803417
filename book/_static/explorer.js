/* The pretrained surrogate in the page itself: it forecasts, draws and recommends as `prunecast.surrogates.lstm`,
   `surrogates.features` and `forecasting.pretrained` do. A classic script, since a page opened from disk loads no module. */
"use strict";
(function () {
  const holder = document.getElementById("forecast-explorer");
  if (!holder) return;
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const numbers = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const weights = Object.fromEntries(Object.entries(data.weights).map(([name, text]) => [name, numbers(text)]));
  const ARRAYS = ["sparsity", "lost_max", "lost_mean", "lost_first", "lost_last", "agreement", "accuracy", "measured", "lower", "upper"];
  const curves = data.curves.map((curve) => {
    const all = numbers(curve.values), points = all.length / ARRAYS.length;
    return { ...curve, ...Object.fromEntries(ARRAYS.map((name, row) => [name, all.subarray(row * points, (row + 1) * points)])) };
  });

  // The surrogate

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const sigmoid = (value) => 1 / (1 + Math.exp(-value));
  const logOdds = (share, edge) => { const inside = clamp(share, edge, 1 - edge); return Math.log(inside / (1 - inside)); };

  function inputsOf(curve) {  // as features.inputs
    const last = curve.agreement[curve.agreement.length - 1];
    const odds = (share) => clamp(logOdds(share, 1e-9), -data.steepest, data.steepest);
    return Array.from(curve.sparsity, (sparsity, at) => [
      odds(sparsity), Number(curve.scope === "layer"), Math.log(curve.layers), Math.log(curve.classes),
      odds(curve.lost_max[at]), odds(curve.lost_mean[at]), odds(curve.lost_first[at]), odds(curve.lost_last[at]),
      curve.agreement[at], last,
    ].map((value, column) => (value - weights.mean[column]) / weights.deviation[column]));
  }

  function retainedBy(member, inputs) {  // gates in the order of PyTorch: input, forget, cell, output
    const part = (name) => weights[`member${member}.${name}`];
    const [ofInput, ofState] = [part("lstm.weight_ih_l0"), part("lstm.weight_hh_l0")];
    const [bias, second] = [part("lstm.bias_ih_l0"), part("lstm.bias_hh_l0")];
    const width = inputs[0].length, hidden = bias.length / 4, left = new Float64Array(inputs.length);
    for (let start = 0; start < data.stride; start++) {
      let state = new Float64Array(hidden);
      const cell = new Float64Array(hidden);
      for (let at = start; at < inputs.length; at += data.stride) {
        const gates = Array.from(bias, (value, gate) => {
          let sum = value + second[gate];
          for (let column = 0; column < width; column++) sum += ofInput[gate * width + column] * inputs[at][column];
          for (let unit = 0; unit < hidden; unit++) sum += ofState[gate * hidden + unit] * state[unit];
          return sum;
        });
        const next = new Float64Array(hidden);
        for (let unit = 0; unit < hidden; unit++) {
          const [enter, keep, fresh, out] = [0, 1, 2, 3].map((gate) => gates[gate * hidden + unit]);
          cell[unit] = sigmoid(keep) * cell[unit] + sigmoid(enter) * Math.tanh(fresh);
          next[unit] = sigmoid(out) * Math.tanh(cell[unit]);
        }
        state = next;
        left[at] = sigmoid(state.reduce((sum, value, unit) => sum + value * part("head.weight")[unit], part("head.bias")[0]));
      }
    }
    return left;
  }

  function forecast(curve) {  // accuracies, through the dense one
    const inputs = inputsOf(curve), members = Array.from({ length: data.members }, (_, member) => retainedBy(member, inputs));
    const last = inputs.length - 1, span = curve.dense - curve.majority;
    const found = inputs.map((_, at) => curve.majority + span * members.reduce((sum, left) => sum + left[at], 0) / members.length);
    const error = curve.dense - found[0];
    return found.map((accuracy, at) => accuracy + error * (1 - at / last));
  }

  const largestSafe = (sparsity, accuracy, epsilon) => {
    const unsafe = accuracy.findIndex((value) => !(value >= accuracy[0] - epsilon - 1e-9));
    return sparsity[unsafe < 0 ? accuracy.length - 1 : Math.max(unsafe - 1, 0)];
  };

  function recommended(curve, accuracy, epsilon) {
    const known = data.margins, after = known.findIndex(([of]) => of >= epsilon);
    let margin = after < 0 ? known[known.length - 1][1] : known[after][1];
    if (after > 0) {
      const [[low, first], [high, second]] = [known[after - 1], known[after]];
      margin = first + (second - first) * (epsilon - low) / (high - low);
    }
    const lower = Math.max(margin, 0) * (warningsOf(curve).length ? data.outside_factor : 1);
    return sigmoid(logOdds(largestSafe(curve.sparsity, accuracy, epsilon), data.edge) - lower);
  }

  const warningsOf = (curve) => curve.warnings || Object.entries(data.ranges)
    .filter(([name, [low, high]]) => curve[name] < low || curve[name] > high)
    .map(([name, [low, high]]) => `${name.replaceAll("_", " ")} is outside ${low} to ${high} of the training models`);

  window.prunecast = { curves, forecast, recommended, largestSafe };  // for the tests

  // The page

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...children);
    return element;
  };
  const drawn = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const labelled = (text, input) => make("label", {}, text, input);
  const options = (input, values) => input.append(...values.map(([value, text]) => make("option", { value }, text)));
  const number = (id, text, value) => labelled(text, make("input", { id, type: "number", min: 1, step: 1, value }));

  const model = make("select", { id: "explorer-model" }), scope = make("select", { id: "explorer-scope" });
  const way = make("select", { id: "explorer-way" });
  const epsilon = make("input", { id: "explorer-epsilon", type: "range", min: 0.005, max: 0.1, step: 0.001, value: 0.01 });
  const file = make("input", { id: "explorer-file", type: "file", accept: ".json,application/json" });
  const said = make("output", { for: "explorer-epsilon" }), status = make("p", { role: "status", "aria-live": "polite" });
  const picture = drawn("svg", { viewBox: "0 0 640 330", role: "img", "aria-labelledby": "explorer-title" });
  const front = drawn("svg", { viewBox: "0 0 640 210", role: "img", "aria-labelledby": "explorer-front-title" });
  const table = make("table", {}), classes = number("explorer-classes", "classes ", 2), layers = number("explorer-layers", "layers ", 2);
  options(model, [...new Set(curves.map((curve) => curve.model))].map((name) => [name, name.replaceAll("_", " ")]));
  options(scope, [["layer", "within each layer"], ["global", "across the whole model"]]);
  options(way, data.ways.map((each, index) => [index, each.way]));
  way.value = Math.max(data.ways.findIndex((each) => each.way === "search, at most 1"), 0);
  holder.append(
    make("div", { class: "explorer-inputs" },
      labelled("model ", model), labelled("weights are compared ", scope),
      labelled("accuracy you would give up ", epsilon), said, labelled("way to a ratio ", way),
      labelled("or your own: the JSON of prunecast predict ", file)),
    make("details", {}, make("summary", {}, "What if the model were another?"), make("div", { class: "explorer-inputs" }, classes, layers)),
    status, picture, front, make("details", {}, make("summary", {}, "The same as a table"), table));

  let own = null;  // curves of a file
  const chosen = () => (own || curves).find((curve) => curve.scope === scope.value && (own || curve.model === model.value));
  const percent = (share) => `${(100 * share).toFixed(0)} %`;

  function draw() {
    const base = chosen();
    if (!base) return say("This file holds no forecast in that scope.");
    const facts = own ? {} : { classes: Number(classes.lastChild.value), layers: Number(layers.lastChild.value) };
    if (Object.values(facts).some((value) => !(value >= 1))) return say("Classes and layers are numbers of at least one.");
    const curve = { ...base, ...facts }, moved = Object.keys(facts).some((name) => facts[name] !== base[name]);
    const predicted = own ? Array.from(curve.predicted) : forecast(curve), give = Number(epsilon.value);
    const prune = recommended(curve, predicted, give), measured = !own && largestSafe(curve.sparsity, Array.from(curve.accuracy), give);
    said.textContent = give.toFixed(3);
    drawCurve(curve, predicted, prune, moved);
    drawFront(Number(way.value));
    fillTable(curve, predicted, moved);
    const { way: name, evaluations, unused, safe } = data.ways[Number(way.value)];
    return say([
      `${curve.model.replaceAll("_", " ")}, ${scope.value} scope: to lose at most ${give.toFixed(3)}, the forecast alone recommends to prune ${percent(prune)}.`,
      measured === false || moved ? "" : `On its measured curve, interpolated between the marks, ${percent(measured)} is safe.`,
      `Replayed on other models, ${name} costs ${evaluations.toFixed(1)} evaluations, leaves ${unused.toFixed(2)} of the weights unused, and is safe on ${percent(safe)} of the curves.`,
      ...warningsOf(curve).map((warning) => `Warning: ${warning}.`), moved ? "The band is that of the model itself, and not drawn." : "",
    ].filter(Boolean).join(" "));
  }

  const say = (sentence) => { status.textContent = sentence; };

  function axes(svg, id, title, box, ticksX, ticksY, x, y, labelX, labelY) {
    svg.replaceChildren(drawn("title", { id }, title));
    ticksY.forEach(([value, text]) => svg.append(
      drawn("line", { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: "grid" }),
      drawn("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, text)));
    ticksX.forEach(([value, text]) => svg.append(
      drawn("line", { x1: x(value), x2: x(value), y1: box.top, y2: box.bottom, class: "grid" }),
      drawn("text", { x: x(value), y: box.bottom + 16, "text-anchor": "middle" }, text)));
    svg.append(drawn("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, labelX),
      drawn("text", { x: 14, y: (box.top + box.bottom) / 2, transform: `rotate(-90 14 ${(box.top + box.bottom) / 2})`, "text-anchor": "middle" }, labelY));
  }

  function drawCurve(curve, predicted, prune, moved) {
    const box = { left: 60, right: 630, top: 14, bottom: 280 };
    const highest = Math.max(curve.dense, ...predicted) + 0.03, lowest = Math.max(Math.min(curve.majority, ...predicted) - 0.08, 0);
    const x = (sparsity) => box.left + (box.right - box.left) * sparsity;
    const y = (accuracy) => clamp(box.bottom - (box.bottom - box.top) * (accuracy - lowest) / (highest - lowest), box.top, box.bottom);
    const tenths = Array.from({ length: 11 }, (_, step) => step / 10);
    axes(picture, "explorer-title", `Accuracy against sparsity for ${curve.model.replaceAll("_", " ")}: forecast, interval, and what was measured`,
      box, tenths.filter((_, step) => step % 2 === 0).map((value) => [value, value.toFixed(1)]),
      tenths.filter((value) => value > lowest && value < highest).map((value) => [value, value.toFixed(1)]), x, y, "sparsity", "accuracy");
    const path = (values) => Array.from(values, (value, at) => `${x(curve.sparsity[at])},${y(value)}`);
    if (!moved) picture.append(drawn("polygon", { points: [...path(curve.upper), ...path(curve.lower).reverse()].join(" "), class: "band" }));
    picture.append(drawn("line", { x1: box.left, x2: box.right, y1: y(curve.dense), y2: y(curve.dense), class: "dense" }),
      drawn("polyline", { points: path(predicted).join(" "), class: "forecast" }),
      drawn("line", { x1: x(prune), x2: x(prune), y1: box.top, y2: box.bottom, class: "recommended" }));
    if (!own) curve.measured.forEach((known, at) => {
      if (known) picture.append(drawn("circle", { cx: x(curve.sparsity[at]), cy: y(curve.accuracy[at]), r: 3.5, class: "measured" }));
    });
    [["forecast", "forecast"], ["recommended", "recommended"], ["measured", "measured"]].forEach(([kind, text], place) => {
      const left = 80 + 130 * place;
      picture.append(kind === "measured" ? drawn("circle", { cx: left + 12, cy: 262, r: 3.5, class: kind })
        : drawn("line", { x1: left, x2: left + 24, y1: 262, y2: 262, class: kind }), drawn("text", { x: left + 30, y: 266 }, text));
    });
  }

  function drawFront(at) {
    const box = { left: 60, right: 630, top: 14, bottom: 160 }, most = Math.max(...data.ways.map((each) => each.evaluations));
    const x = (cost) => box.left + (box.right - box.left) * Math.log1p(10 * cost) / Math.log1p(10 * most);
    const y = (unused) => box.bottom - (box.bottom - box.top) * unused / (1.1 * Math.max(...data.ways.map((each) => each.unused)));
    axes(front, "explorer-front-title", "Sparsity left unused against the cost of each way to a safe ratio", box,
      [0, 0.1, 0.5, 1, 3, 10, 30].filter((cost) => cost <= most).map((cost) => [cost, String(cost)]),
      [0, 0.1, 0.2, 0.3].filter((unused) => y(unused) >= box.top).map((unused) => [unused, unused.toFixed(1)]), x, y,
      "evaluations of all examples beside the dense one", "left unused");
    data.ways.forEach((each, index) => front.append(
      drawn("circle", { cx: x(each.evaluations), cy: y(each.unused), r: index === at ? 7 : 3.5, class: index === at ? "chosen" : "measured" })));
  }

  function fillTable(curve, predicted, moved) {
    const head = ["sparsity", "forecast", "from", "to", "measured"];
    const rows = Array.from(curve.sparsity, (sparsity, at) => [sparsity, at]).filter((_, at) => at % 10 === 0).map(([sparsity, at]) => [
      percent(sparsity), predicted[at].toFixed(3), moved ? "" : curve.lower[at].toFixed(3), moved ? "" : curve.upper[at].toFixed(3),
      !own && curve.measured[at] ? curve.accuracy[at].toFixed(3) : ""]);
    table.replaceChildren(make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((text) => make("td", {}, text))))));
  }

  // A file of one's own

  function curvesOf(content) {
    if (content === null || typeof content !== "object" || !Array.isArray(content.curve)) throw new Error("it holds no forecast of prunecast predict");
    if (content.format !== data.format) throw new Error(`it is of format ${content.format}, and this page reads format ${data.format}`);
    const finite = (value) => { if (!Number.isFinite(value)) throw new Error("it holds a value that is no number"); return value; };
    const facts = { model: String(content.checkpoint), dense: finite(content.dense_accuracy), majority: finite(content.majority_accuracy), warnings: content.warnings || [] };
    const found = ["layer", "global"].map((name) => {
      const rows = content.curve.filter((row) => row.scope === name).sort((one, other) => one.sparsity - other.sparsity);
      return { ...facts, scope: name, ...Object.fromEntries(["sparsity", "predicted", "lower", "upper"].map((column) => [column, rows.map((row) => finite(row[column]))])) };
    }).filter((curve) => curve.sparsity.length > 1);
    if (!found.length) throw new Error("it holds no forecast of prunecast predict");
    return found;
  }

  async function read(chosenFile) {
    if (!chosenFile) return;
    try {
      const found = curvesOf(JSON.parse(await chosenFile.text()));
      own = found;
      if (!chosen()) scope.value = own[0].scope;
      draw();
    } catch (error) {
      const why = error instanceof SyntaxError ? "it is no JSON" : error.message;
      say(`${chosenFile.name} was not read: ${why}.`);
    }
  }

  const ofModel = () => {
    own = null;
    const curve = chosen();
    [classes.lastChild.value, layers.lastChild.value] = [curve.classes, curve.layers];
    draw();
  };
  model.addEventListener("change", ofModel);
  [scope, epsilon, way, classes, layers].forEach((input) => input.addEventListener("input", draw));
  file.addEventListener("change", () => read(file.files[0]));
  holder.addEventListener("dragover", (event) => event.preventDefault());
  holder.addEventListener("drop", (event) => { event.preventDefault(); read(event.dataTransfer.files[0]); });
  ofModel();
})();
