// Titles that name a subject, as the templates have them ("Subject: crab", "Picture: crab"), follow
// its label. Any other title is the user's own.

import { app } from "../../scripts/app.js";

const SUBJECT = "SubjectDiffusionSubject";
const named = (kind, label) => `${kind}: ${label}`;

function rename(node, kind, before, after) {
  if (node?.title === named(kind, before)) node.title = named(kind, after);
}

function follow(node, widget) {
  let last = String(widget.value);
  const callback = widget.callback;
  widget.callback = function (...values) {
    const result = callback?.apply(this, values);
    const label = String(widget.value);
    const slot = node.inputs?.findIndex(({ name }) => name === "image");
    rename(node, "Subject", last, label);
    rename(node.getInputNode?.(slot), "Picture", last, label);
    last = label;
    node.setDirtyCanvas?.(true, true);
    return result;
  };
  // a workflow brings its own values, without a callback
  const configured = node.onConfigure;
  node.onConfigure = function (...values) {
    const result = configured?.apply(this, values);
    last = String(widget.value);
    return result;
  };
}

app.registerExtension({
  name: "SubjectDiffusion.SubjectTitles",
  nodeCreated(node) {
    const widget = node.widgets?.find(({ name }) => name === "label");
    if (node.comfyClass === SUBJECT && widget) follow(node, widget);
  },
});
