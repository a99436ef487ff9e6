/** An element with attributes, properties (`on...`) and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/**
 * The front end takes Ctrl+Z from everywhere but text fields, before any listener here could
 * stop it; it recognises them by `type`, from 1.55 on by `isContentEditable`. The editor has an
 * undo of its own, so it says the same.
 */
export function withOwnUndo(made) {
  Object.defineProperty(made, "type", { value: "textarea" });
  Object.defineProperty(made, "isContentEditable", { value: true });
  return made;
}

export function button(label, title, onclick, attributes = {}) {
  const named = { type: "button", title, "aria-label": title, onclick };
  return withOwnUndo(element("button", { ...named, ...attributes }, label));
}

/** As many elements in `parent` as there are subjects, each with room for picture and label. */
export function matchCount(elements, count, parent, make) {
  while (elements.length > count) elements.pop().remove();
  while (elements.length < count) {
    const made = make(elements.length);
    made.append(element("img", { alt: "", draggable: "false" }), element("span"));
    parent.append(made);
    elements.push(made);
  }
}

/** Show a subject on an element that `matchCount` made. */
export function showSubject(made, { colour, thumbnail }, isSelected, text) {
  const [image, label] = made.children;
  made.style.setProperty("--colour", colour);
  made.ariaPressed = isSelected;
  image.hidden = !thumbnail;
  if (thumbnail && image.src !== thumbnail) image.src = thumbnail;
  label.textContent = text;
}

/** A field for a number; `onnumber` gets what was typed, inside the limits. */
export function numberField(label, max, step, onnumber) {
  const onchange = ({ target: { valueAsNumber: value } }) => {
    if (!Number.isNaN(value)) onnumber(Math.min(Math.max(value, 0), max));
  };
  const limits = { type: "number", inputmode: "decimal", min: 0, max, step };
  const input = element("input", { ...limits, onchange });
  return element("label", {}, element("span", {}, label), input);
}
