"use strict";
// The page of one image. Data (format: see the Rust module): names and depths of all paths in the order of a walk, and for each
// file of each layer its path, layer, bytes and what it is charged with. Only what is seen is laid out and drawn.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { names, layers, causes } = data;
  const count = names.length;

  // Paths: parent and end (first number behind the content) of each.
  const parent = new Int32Array(count), end = new Int32Array(count);
  {
    const way = [];
    data.depths.forEach((d, n) => {
      while (way.length > d) end[way.pop()] = n;
      parent[n] = d ? way[d - 1] : -1;
      way.push(n);
    });
    while (way.length) end[way.pop()] = count;
  }
  const kids = (n) => {
    const out = [];
    for (let c = n + 1; c < end[n]; c = end[c]) out.push(c);
    return out;
  };
  const path = (n) => {
    const parts = [];
    for (; n > 0; n = parent[n]) parts.push(names[n]);
    return "/" + parts.reverse().join("/");
  };

  // Files of layers, by path: entries first[n] to first[n + 1].
  const files = data.files;
  const fileCount = files.sizes.length;
  const fileNode = new Int32Array(fileCount), first = new Int32Array(count + 1);
  {
    let at = 0;
    files.nodes.forEach((d, i) => { at += d; fileNode[i] = at; first[at + 1]++; });
    for (let n = 0; n < count; n++) first[n + 1] += first[n];
  }

  // Bytes below each path: of all layers, and of one layer (made when it is asked for).
  const sums = new Map();
  const bytesOf = (layer) => {
    let all = sums.get(layer);
    if (all) return all;
    all = new Float64Array(count);
    for (let i = 0; i < fileCount; i++) {
      if (layer < 0 || files.layers[i] === layer) all[fileNode[i]] += files.sizes[i];
    }
    for (let n = count - 1; n > 0; n--) all[parent[n]] += all[n];
    if (sums.size > 24) sums.delete([...sums.keys()].find((k) => k >= 0));
    sums.set(layer, all);
    return all;
  };

  // Wasted bytes below each path, and the cause of most of them.
  const wasteOf = (() => {
    const made = new Map();
    return (layer) => {
      let w = made.get(layer);
      if (w) return w;
      w = { bytes: new Float64Array(count), most: new Float64Array(count), cause: new Uint8Array(count) };
      for (let i = 0; i < fileCount; i++) {
        const n = fileNode[i], size = files.sizes[i];
        if (!files.causes[i] || (layer >= 0 && files.layers[i] !== layer)) continue;
        w.bytes[n] += size;
        if (size > w.most[n]) { w.most[n] = size; w.cause[n] = files.causes[i]; }
      }
      for (let n = count - 1; n > 0; n--) {
        const p = parent[n];
        w.bytes[p] += w.bytes[n];
        if (w.most[n] > w.most[p]) { w.most[p] = w.most[n]; w.cause[p] = w.cause[n]; }
      }
      if (made.size > 24) made.delete([...made.keys()].find((k) => k >= 0));
      made.set(layer, w);
      return w;
    };
  })();

  const human = (n) => {
    if (n < 1000) return n + "B";
    let unit = "";
    for (unit of ["kB", "MB", "GB", "TB", "PB", "EB"]) {
      n /= 1000;
      if (n < 999.5) break;
    }
    return n.toFixed(n < 9.995 ? 2 : n < 99.95 ? 1 : 0) + unit;
  };
  const percent = (part, whole) => (whole ? (100 * part / whole).toFixed(1) : "0.0") + " %";
  const plural = (n, word) => n + " " + word + (n === 1 ? "" : "s");
  const make = (tag, className, text) => {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  };

  // An item of the map: all layers {node, layer: -1}, one layer's part {node, layer}, one file {node, layer, file}, or the list of
  // layers {layers: true}.
  const ALL = { node: 0, layer: -1 };
  const LAYERS = { layers: true, node: 0, layer: -1 };
  const sizeOf = (item) =>
    item.file !== undefined ? files.sizes[item.file]
      : item.layers ? bytesOf(-1)[0] : bytesOf(item.layer)[item.node];
  const key = (item) => [item.layers ? "L" : "", item.node, item.layer, item.file].join();
  const cache = new Map();
  const content = (item) => {
    const k = key(item);
    let out = cache.get(k);
    if (out) return out;
    out = [];
    if (item.layers) {
      layers.forEach((_, n) => out.push({ node: 0, layer: n }));
    } else if (item.file === undefined) {
      for (const c of kids(item.node)) out.push({ node: c, layer: item.layer });
      const own = [];
      for (let i = first[item.node]; i < first[item.node + 1]; i++) {
        if (item.layer < 0 || files.layers[i] === item.layer) own.push({ node: item.node, layer: files.layers[i], file: i });
      }
      // A single file is drawn as itself.
      if (own.length > 1 || (own.length && out.length)) out.push(...own);
    }
    out = out.map((i) => [sizeOf(i), i]).filter((p) => p[0] > 0).sort((a, b) => b[0] - a[0]);
    if (cache.size > 20000) cache.clear();
    cache.set(k, out);
    return out;
  };
  const only = (item) => {
    // The one file that an item stands for.
    if (item.file !== undefined) return item.file;
    if (item.layers || end[item.node] > item.node + 1) return -1;
    let found = -1;
    for (let i = first[item.node]; i < first[item.node + 1]; i++) {
      if (item.layer < 0 || files.layers[i] === item.layer) {
        if (found >= 0) return -1;
        found = i;
      }
    }
    return found;
  };
  const label = (item) =>
    item.layers ? "layers" : item.file !== undefined ? "layer " + item.layer
      : item.node === 0 ? (item.layer < 0 ? "/" : item.layer + " " + layers[item.layer].instruction) : names[item.node];
  const tell = (item) => {
    let text = item.layers ? plural(layers.length, "layer") : item.layer >= 0 && item.node === 0 ? "layer " + label(item) : path(item.node);
    const size = sizeOf(item);
    text += " · " + human(size) + " (" + percent(size, sizeOf(ALL)) + ")";
    if (item.layer >= 0 && item.node > 0) text += " · layer " + item.layer;
    const file = only(item);
    if (file < 0 && !item.layers) {
      const wasted = wasteOf(item.layer).bytes[item.node];
      if (wasted) text += " · " + human(wasted) + " wasted";
    }
    if (file >= 0) {
      if (item.layer < 0) text += " · layer " + files.layers[file];
      const cause = files.causes[file];
      text += " · " + (cause ? causes[cause - 1] : "live");
    }
    return text;
  };

  // ---- state -----------------------------------------------------------------------------------------------------------------
  let root = ALL;
  let trail = [];               // items above the root of the map
  let chosen = null;
  let matches = null;           // paths that the search found, with the directories above them; null: no search
  let cells = [];
  const canvas = $("canvas"), ctx = canvas.getContext("2d");
  const byLayer = () => (trail[0] || root).layers === true;

  // ---- treemap ---------------------------------------------------------------------------------------------------------------
  const PAD = 2, HEAD = 17, SMALL = 3;
  let style = {};
  const readStyle = () => {
    const css = getComputedStyle(document.documentElement);
    const get = (n) => css.getPropertyValue("--" + n).trim();
    style = { live: get("live"), base: get("live-base"), frame: get("frame"), text: get("frame-text"), panel: get("panel"),
      hover: get("hover"), accent: get("accent"), causes: causes.map((_, i) => get("c" + (i + 1))) };
    style.hatch = style.causes.map((c) => {
      const tile = document.createElement("canvas");
      tile.width = tile.height = 8;
      const t = tile.getContext("2d");
      t.fillStyle = c;
      t.fillRect(0, 0, 8, 8);
      t.strokeStyle = style.panel;
      t.globalAlpha = 0.28;
      t.lineWidth = 2;
      t.beginPath();
      for (const o of [-8, 0, 8]) { t.moveTo(o, 8); t.lineTo(o + 8, 0); }
      t.stroke();
      return ctx.createPattern(tile, "repeat");
    });
  };

  // Squarified: rows of items along the shorter side, each row as long as that makes its items squarer.
  const squarify = (items, x, y, w, h, put) => {
    let total = 0;
    for (const [s] of items) total += s;
    let at = 0;
    while (at < items.length && w > 0.5 && h > 0.5 && total > 0) {
      const side = Math.min(w, h), scale = w * h / total;
      let row = 0, best = Infinity, stop = at;
      while (stop < items.length) {
        const next = row + items[stop][0];
        const area = next * scale, thick = area / side;
        const worst = Math.max(thick / (items[stop][0] * scale / thick), (items[at][0] * scale / thick) / thick);
        if (worst > best) break;
        best = worst;
        row = next;
        stop++;
      }
      const thick = row * scale / side;
      let offset = 0;
      for (; at < stop; at++) {
        const long = items[at][0] * scale / thick;
        if (w >= h) put(items[at][1], x, y + offset, thick, long);
        else put(items[at][1], x + offset, y, long, thick);
        offset += long;
      }
      if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
      total -= row;
    }
  };
  const lay = (item, x, y, w, h, depth) => {
    if (w < 1 || h < 1) return;
    const inner = content(item);
    const leaf = inner.length === 0;
    const head = !leaf && depth > 0 && h > HEAD + 12 && w > 34;
    const cell = { item, x, y, w, h, depth, leaf, head };
    cells.push(cell);
    if (leaf || w < SMALL * 2 || h < SMALL * 2) { cell.leaf = true; return; }
    const pad = depth > 0 && w > 14 && h > 14 ? PAD : 0;
    const top = head ? HEAD : pad;
    const iw = w - 2 * pad, ih = h - top - pad;
    // What would be less than a pixel is not laid out one by one.
    const scale = iw * ih / sizeOf(item);
    let n = inner.length;
    if (inner[n - 1][0] * scale < 2) {
      let lo = 0, hi = n;
      while (lo < hi) { const mid = (lo + hi) >> 1; if (inner[mid][0] * scale >= 2) lo = mid + 1; else hi = mid; }
      n = lo;
    }
    let seen = inner;
    if (n < inner.length) {
      let rest = 0;
      for (let i = n; i < inner.length; i++) rest += inner[i][0];
      // Where most of it would be dust, one piece says more.
      if (rest > sizeOf(item) / 2 && !head) { cell.leaf = true; return; }
      seen = inner.slice(0, n);
      seen.push([rest, null]);
    }
    squarify(seen, x + pad, y + top, iw, ih, (i, cx, cy, cw, ch) => {
      if (i) lay(i, cx, cy, cw, ch, depth + 1);
      else cells.push({ item, x: cx, y: cy, w: cw, h: ch, depth: depth + 1, leaf: true, rest: true });
    });
  };
  const clip = (text, width) => {
    if (ctx.measureText(text).width <= width) return text;
    let lo = 0, hi = text.length;
    while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (ctx.measureText(text.slice(0, mid) + "…").width <= width) lo = mid; else hi = mid - 1; }
    return lo > 1 ? text.slice(0, lo) + "…" : "";
  };
  const fill = (cell) => {
    const file = only(cell.item);
    if (cell.rest || file < 0) {
      // Too small to be drawn in parts.
      return cell.item.layer >= 0 && layers[cell.item.layer].base ? style.base : style.live;
    }
    const cause = files.causes[file];
    if (cause) return style.hatch[cause - 1];
    return layers[files.layers[file]].base ? style.base : style.live;
  };
  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const w = canvas.clientWidth, h = canvas.clientHeight;
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    cells = [];
    lay(root, 0, 0, w, h, 0);
    ctx.fillStyle = style.panel;
    ctx.fillRect(0, 0, w, h);
    ctx.textBaseline = "middle";
    for (const c of cells) {
      if (c.depth === 0 && !c.leaf) continue;
      const dimmed = matches && !matches.has(c.item.node);
      ctx.globalAlpha = dimmed ? 0.22 : 1;
      const gap = c.w > 4 && c.h > 4 ? 0.5 : 0.15;
      ctx.fillStyle = c.leaf ? fill(c) : style.frame;
      ctx.fillRect(c.x + gap, c.y + gap, c.w - 2 * gap, c.h - 2 * gap);
      if (c.leaf && (c.rest || only(c.item) < 0) && !c.item.layers) {
        // What is not drawn in parts shows its part of waste as a strip.
        const w = wasteOf(c.item.layer), part = w.bytes[c.item.node] / (sizeOf(c.item) || 1);
        if (part > 0) {
          const high = Math.min(c.h - 2 * gap, Math.max(1.5, (c.h - 2 * gap) * part));
          ctx.fillStyle = style.causes[w.cause[c.item.node] - 1];
          ctx.fillRect(c.x + gap, c.y + c.h - gap - high, c.w - 2 * gap, high);
        }
      }
      if (!c.leaf && c.w > 14 && c.h > 14) {
        ctx.strokeStyle = style.panel;
        ctx.lineWidth = 1;
        ctx.strokeRect(c.x + 0.5, c.y + 0.5, c.w - 1, c.h - 1);
      }
      if (c.head) {
        ctx.font = "600 11.5px system-ui, sans-serif";
        ctx.fillStyle = style.text;
        const size = human(sizeOf(c.item));
        const name = clip(label(c.item), c.w - 10);
        ctx.fillText(name, c.x + 5, c.y + 9.5);
        const used = ctx.measureText(name).width;
        ctx.font = "11px system-ui, sans-serif";
        const wide = ctx.measureText(size).width;
        if (used + wide + 18 < c.w) { ctx.globalAlpha *= 0.75; ctx.fillText(size, c.x + c.w - wide - 6, c.y + 9.5); }
      } else if (c.leaf && !c.rest && c.w > 42 && c.h > 16) {
        ctx.font = "11px system-ui, sans-serif";
        const name = clip(label(c.item), c.w - 8);
        const file = only(c.item);
        if (name) {
          if (file >= 0 && files.causes[file]) {
            // On a hatch a text needs ground of its own.
            ctx.fillStyle = style.panel;
            ctx.globalAlpha *= 0.86;
            ctx.fillRect(c.x + 2, c.y + 2, Math.min(ctx.measureText(name).width + 6, c.w - 4), 14);
            ctx.globalAlpha = dimmed ? 0.22 : 1;
          }
          ctx.fillStyle = style.text;
          ctx.fillText(name, c.x + 5, c.y + 9.5);
        }
      }
    }
    ctx.globalAlpha = 1;
    if (chosen) {
      const k = key(chosen), c = cells.find((c) => !c.rest && key(c.item) === k);
      if (c) {
        ctx.strokeStyle = style.hover;
        ctx.lineWidth = 2.5;
        ctx.strokeRect(c.x + 1.5, c.y + 1.5, Math.max(c.w - 3, 2), Math.max(c.h - 3, 2));
      }
    }
    if (!cells.length || sizeOf(root) === 0) {
      ctx.fillStyle = style.text;
      ctx.font = "13px system-ui, sans-serif";
      ctx.fillText("no bytes here", 12, 20);
    }
  };
  let pending = 0;
  const redraw = () => { if (!pending) pending = requestAnimationFrame(() => { pending = 0; draw(); }); };
  const hit = (x, y) => {
    let found = null;
    for (const c of cells) if (x >= c.x && x < c.x + c.w && y >= c.y && y < c.y + c.h) found = c;
    return found;
  };

  // ---- moving ----------------------------------------------------------------------------------------------------------------
  const say = (item) => { $("status").textContent = item ? tell(item) : tell(root); };
  const choose = (item) => { chosen = item; say(item); redraw(); };
  const crumbs = () => {
    const nav = $("crumbs");
    nav.textContent = "";
    [...trail, root].forEach((item, n) => {
      if (n) nav.append(make("span", "", "›"));
      const b = make("button", "", label(item));
      b.type = "button";
      b.addEventListener("click", () => zoomTo([...trail, root].slice(0, n + 1)));
      nav.append(b);
    });
  };
  const zoomTo = (items) => {
    root = items[items.length - 1];
    trail = items.slice(0, -1);
    chosen = null;
    const layer = root.layer;
    for (const b of $("timeline").children) b.setAttribute("aria-pressed", b.dataset.layer === String(layer));
    $("by-directory").setAttribute("aria-pressed", !byLayer());
    $("by-layer").setAttribute("aria-pressed", byLayer());
    for (const b of $("layers").querySelectorAll("button")) b.setAttribute("aria-current", b.dataset.layer === String(layer));
    crumbs();
    say(null);
    remember();
    redraw();
  };
  // Items from the top of the map to a path, in all layers or in one.
  const way = (node, layer) => {
    const nodes = [];
    for (let n = node; n > 0; n = parent[n]) nodes.push(n);
    const top = layer < 0 ? [ALL] : [LAYERS, { node: 0, layer }];
    return [...top, ...nodes.reverse().map((n) => ({ node: n, layer }))];
  };
  const into = (item) => {
    // A click goes one level down, to the directory that was hit.
    const full = item.layers ? [LAYERS] : byLayer() ? way(item.node, item.layer) : way(item.node, -1);
    const depth = trail.length + 2;
    const next = full.slice(0, depth);
    if (next.length === depth && content(next[depth - 1]).length) zoomTo(next);
    else choose(item);
  };
  const out = () => { if (trail.length) { const was = root; zoomTo(trail); choose(was); } };
  const reveal = (node, layer) => {
    const full = way(node, layer);
    const item = full.pop();
    if (!full.length) return zoomTo([item]);
    zoomTo(full);
    choose(item);
  };
  const arrange = (layered) => {
    const node = root.layers ? 0 : root.node;
    if (!layered) zoomTo(way(node, -1));
    else zoomTo([LAYERS]);
  };
  const step = (dx, dy) => {
    // The nearest of the cells on the chosen one's level in the direction of the arrow.
    const level = cells.filter((c) => c.depth === 1 && !c.rest);
    if (!level.length) return;
    const now = chosen && level.find((c) => key(c.item) === key(chosen));
    if (!now) return choose(level[0].item);
    const mid = (c) => [c.x + c.w / 2, c.y + c.h / 2];
    const [x, y] = mid(now);
    let best = null, bestScore = Infinity;
    for (const c of level) {
      const [cx, cy] = mid(c);
      const along = (cx - x) * dx + (cy - y) * dy, across = Math.abs((cx - x) * dy) + Math.abs((cy - y) * dx);
      if (along > 1 && along + 2 * across < bestScore) { best = c; bestScore = along + 2 * across; }
    }
    if (best) choose(best.item);
  };

  // ---- lists -----------------------------------------------------------------------------------------------------------------
  const row = (list, number, text, act) => {
    const li = make("li"), b = make("button");
    b.type = "button";
    b.append(make("span", "n", number), text);
    b.addEventListener("click", () => {
      for (const other of list.querySelectorAll("button")) other.setAttribute("aria-current", other === b);
      act();
    });
    li.append(b);
    list.append(li);
    return b;
  };
  const tabs = ["findings", "layers", "files"];
  const show = (name) => {
    for (const t of tabs) {
      $(t).hidden = t !== name;
      $("tab-" + t).setAttribute("aria-selected", t === name);
      $("tab-" + t).tabIndex = t === name ? 0 : -1;
    }
  };
  const listFindings = () => {
    const pane = $("findings"), list = make("ol");
    pane.textContent = "";
    if (!data.findings.length) return pane.append(make("p", "none", "Nothing to mend: every byte that is shipped is there in the image, once."));
    for (const f of data.findings) {
      const title = make("span", "t");
      const dot = make("i", "k");
      dot.style.background = "var(--c" + f.cause + ")";
      title.append(dot, f.title);
      const b = row(list, human(f.bytes), title, () => reveal(f.node, byLayer() ? f.layer : -1));
      b.append(make("span", "s", "layer " + f.layer + (f.base ? ", of the base image" : "") + " · " + plural(f.files, "file") + " · " + causes[f.cause - 1]));
      b.append(make("span", "a", f.advice));
    }
    pane.append(list);
  };
  const listLayers = () => {
    const list = make("ol");
    layers.forEach((l, n) => {
      const b = row(list, human(l.size), make("span", "t clip", n + " " + (l.instruction || "(no history)")), () => zoomTo(way(0, n)));
      b.title = l.instruction;
      b.dataset.layer = n;
      let text = l.packed === null ? "" : human(l.packed) + " compressed · ";
      text += l.dead ? human(l.dead) + " dead" : "no dead bytes";
      if (l.base) text += " · base image";
      b.append(make("span", "s", text));
    });
    $("layers").append(list);
  };
  const MOST = 300;
  const listFiles = (nodes, what) => {
    const pane = $("files"), list = make("ol"), all = bytesOf(-1);
    pane.textContent = "";
    pane.append(make("p", "none", what));
    for (const n of nodes.slice(0, MOST)) {
      const where = [];
      for (let i = first[n]; i < first[n + 1]; i++) {
        const cause = files.causes[i];
        where.push("layer " + files.layers[i] + " " + human(files.sizes[i]) + (cause ? " " + causes[cause - 1] : ""));
      }
      const b = row(list, human(all[n]), make("span", "t", path(n)), () => reveal(n, -1));
      b.append(make("span", "s", where.slice(0, 6).join(" · ") + (where.length > 6 ? " …" : "")));
    }
    pane.append(list);
  };
  let lower = null;
  const search = (text) => {
    const all = bytesOf(-1);
    if (!text) {
      matches = null;
      const largest = [];
      for (let n = 1; n < count; n++) if (first[n + 1] > first[n]) largest.push(n);
      largest.sort((a, b) => all[b] - all[a]);
      listFiles(largest, "Largest of " + plural(largest.length, "path"));
    } else {
      lower = lower || names.map((n) => n.toLowerCase());
      const wanted = text.toLowerCase(), whole = wanted.includes("/");
      const found = [];
      for (let n = 1; n < count; n++) if ((whole ? path(n).toLowerCase() : lower[n]).includes(wanted)) found.push(n);
      matches = new Set();
      for (const n of found) {
        for (let p = n; p >= 0 && !matches.has(p); p = parent[p]) matches.add(p);
        // What lies in a directory that was found belongs to it.
        if (end[n] > n + 1) for (let c = n + 1; c < end[n]; c++) matches.add(c);
      }
      found.sort((a, b) => all[b] - all[a]);
      const shown = found.length > MOST ? ", the largest " + MOST + " shown" : "";
      listFiles(found, found.length ? plural(found.length, "path") + " found" + shown : "Nothing is called that.");
    }
    remember();
    redraw();
  };

  // ---- the address holds what is shown ---------------------------------------------------------------------------------------
  let ready = false;
  const remember = () => {
    if (!ready) return;
    const p = new URLSearchParams();
    if (byLayer()) p.set("by", "layer");
    if (root.layer >= 0) p.set("layer", root.layer);
    if (!root.layers && root.node > 0) p.set("path", path(root.node));
    if ($("query").value) p.set("q", $("query").value);
    const text = p.toString();
    if (("#" + text) !== location.hash) history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  };
  const recall = () => {
    const p = new URLSearchParams(location.hash.slice(1));
    let layer = p.has("layer") ? Number(p.get("layer")) : -1;
    if (!(Number.isInteger(layer) && layer >= 0 && layer < layers.length)) layer = -1;
    let node = 0;
    for (const part of (p.get("path") || "").split("/").filter(Boolean)) {
      const next = kids(node).find((c) => names[c] === part);
      if (next === undefined) break;
      node = next;
    }
    const q = p.get("q") || "";
    $("query").value = q;
    search(q);
    if (q) show("files");
    if (layer < 0 && p.get("by") === "layer") zoomTo([LAYERS]);
    else zoomTo(way(node, layer));
  };

  // ---- start -----------------------------------------------------------------------------------------------------------------
  $("title").textContent = data.name;
  const fact = (word, value, bad) => {
    const d = make("div");
    d.append(make("dt", "", word), make("dd", bad ? "bad" : "", value));
    $("facts").append(d);
  };
  const t = data.total;
  fact("Shipped", human(t.shipped));
  if (t.packed !== null) fact("Compressed", human(t.packed));
  fact("Dead", human(t.dead) + " (" + percent(t.dead, t.shipped) + ")", t.dead > 0);
  fact("Efficiency", (100 * t.efficiency).toFixed(1) + " %");
  fact("Layers", String(layers.length));
  fact("Files", t.files.toLocaleString("en"));
  if (data.platform) fact("Platform", data.platform);
  const largest = Math.max(1, ...layers.map((l) => l.size));
  layers.forEach((l, n) => {
    const b = make("button", l.base ? "base" : "");
    b.type = "button";
    b.dataset.layer = n;
    b.title = n + " " + l.instruction + "\n" + human(l.size) + (l.dead ? ", " + human(l.dead) + " dead" : "");
    b.setAttribute("aria-label", "Layer " + n + ": " + human(l.size) + (l.dead ? ", " + human(l.dead) + " dead" : "") + ", " + l.instruction);
    const part = (name, bytes) => { const e = make("span", name); e.style.flex = bytes / largest + " 1 0"; e.style.minHeight = bytes && name === "dead" ? "2px" : ""; return e; };
    b.append(part("rest", largest - l.size), part("dead", l.dead), part("live", l.size - l.dead), make("span", "no", String(n)));
    b.addEventListener("click", () => zoomTo(way(0, n)));
    $("timeline").append(b);
  });
  const legend = (colour, text) => { const s = make("span"), i = make("i"); i.style.background = colour; s.append(i, text); $("legend").append(s); };
  legend("var(--live)", "live");
  if (layers.some((l) => l.base)) legend("var(--live-base)", "live, of the base image");
  causes.forEach((c, n) => { if (t.causes[n]) legend("var(--c" + (n + 1) + ")", c + " " + human(t.causes[n])); });
  listFindings();
  listLayers();

  for (const t of tabs) {
    $("tab-" + t).addEventListener("click", () => show(t));
    $("tab-" + t).addEventListener("keydown", (e) => {
      const by = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? tabs.length - 1 : 0;
      if (by) { const next = tabs[(tabs.indexOf(t) + by) % tabs.length]; show(next); $("tab-" + next).focus(); }
    });
  }
  $("by-directory").addEventListener("click", () => arrange(false));
  $("by-layer").addEventListener("click", () => arrange(true));
  $("query").addEventListener("input", () => { show("files"); search($("query").value.trim()); });
  $("query").addEventListener("keydown", (e) => {
    if (e.key === "Escape") { $("query").value = ""; search(""); canvas.focus(); }
    if (e.key === "Enter") { const b = $("files").querySelector("button"); if (b) b.click(); }
  });
  canvas.addEventListener("mousemove", (e) => { const c = hit(e.offsetX, e.offsetY); say(c && c.item); canvas.title = ""; });
  canvas.addEventListener("mouseleave", () => say(chosen));
  canvas.addEventListener("click", (e) => { const c = hit(e.offsetX, e.offsetY); if (c) into(c.item); });
  canvas.addEventListener("contextmenu", (e) => { e.preventDefault(); out(); });
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (e) => {
    if (steps[e.key]) step(...steps[e.key]);
    else if (e.key === "Enter" || e.key === " ") { if (chosen) into(chosen); }
    else if (e.key === "Backspace" || e.key === "Escape") out();
    else return;
    e.preventDefault();
  });
  document.addEventListener("keydown", (e) => {
    if (e.target.tagName === "INPUT" || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/") { e.preventDefault(); $("query").focus(); $("query").select(); }
    if (e.key === "v") arrange(!byLayer());
  });
  window.addEventListener("hashchange", recall);
  new ResizeObserver(redraw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readStyle(); redraw(); });
  readStyle();
  recall();
  ready = true;
  draw();
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
