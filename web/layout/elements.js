/** An element with attributes, properties (`on...`) and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/**
 * The front end takes Ctrl+Z from everywhere but text fields, before any listener here could
 * stop it; it recognises them by `type`. The editor has an undo of its own, so it says the same.
 */
export function withOwnUndo(made) {
  Object.defineProperty(made, "type", { value: "textarea" });
  return made;
}

export function button(label, title, onclick, attributes = {}) {
  const made = element("button", { type: "button", title, "aria-label": title, ...attributes });
  made.append(label);
  made.addEventListener("click", onclick);
  return withOwnUndo(made);
}

/** A field for a number; `onnumber` gets what was typed, inside the limits. */
export function numberField(label, { min = 0, max = 1, step = 0.01 }, onnumber) {
  const input = element("input", { type: "number", min, max, step, inputmode: "decimal" });
  input.addEventListener("change", () => {
    if (input.value === "" || !Number.isFinite(input.valueAsNumber)) return;
    onnumber(Math.min(Math.max(input.valueAsNumber, min), max));
  });
  return { input, field: element("label", {}, element("span", {}, label), input) };
}
