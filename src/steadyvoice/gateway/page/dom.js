// Elements, made and changed by hand. Text is only ever text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("p", {class: "aside", onclick: f}, "text", another)`. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Change a text only when it is another one: a screen reader, or a selection, notices every change. */
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Change attributes, those only that are others; `null` and `false` take one away. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      if (element.hasAttribute(name)) element.removeAttribute(name);
    } else {
      const said = value === true ? "" : String(value);
      if (element.getAttribute(name) !== said) element.setAttribute(name, said);
    }
  }
}

/** Make these the children, and move only what is not in its place: focus and open details survive. */
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}

export const byId = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, { [name]: value });
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
